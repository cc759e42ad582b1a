//! The few requests that set a store up.

use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(10);

fn agent() -> ureq::Agent {
    ureq::Agent::config_builder().timeout_global(Some(LIMIT)).http_status_as_error(false).build().into()
}

/// The body of a successful answer.
pub(crate) fn get(url: &str) -> Option<String> {
    let mut answer = agent().get(url).call().ok()?;
    answer.status().is_success().then(|| answer.body_mut().read_to_string().ok())?
}

/// Status and body.
pub(crate) fn put(url: &str, headers: &[(&str, &str)], body: &str) -> Option<(u16, String)> {
    let mut request = agent().put(url);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let mut answer = request.send(body).ok()?;
    Some((answer.status().as_u16(), answer.body_mut().read_to_string().unwrap_or_default()))
}

/// Status and body.
pub(crate) fn delete(url: &str) -> Option<(u16, String)> {
    let mut answer = agent().delete(url).call().ok()?;
    Some((answer.status().as_u16(), answer.body_mut().read_to_string().unwrap_or_default()))
}

/// Whether anything answers there.
pub(crate) fn answers(url: &str) -> bool {
    agent().get(url).call().is_ok()
}
