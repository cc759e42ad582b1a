//! Progress that crosses a task: only the newest counts.

use muster_ports::Progress;
use tokio::sync::watch;

pub(crate) type News = Option<(u64, Option<u64>)>;

/// Puts what is reported where another task finds it.
#[derive(Debug)]
pub(crate) struct Newest(pub(crate) watch::Sender<News>);

impl Progress for Newest {
    fn report(&self, done: u64, total: Option<u64>) {
        self.0.send_replace(Some((done, total)));
    }
}
