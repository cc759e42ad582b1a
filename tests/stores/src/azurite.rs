//! Azurite: the blob service of Azure, as one process.

use crate::http;
use crate::server::{Server, own_address, wait_until};
use crate::{Store, tools};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use muster_ports::{Clock, SystemClock};
use object_store::azure::{MicrosoftAzure, MicrosoftAzureBuilder};
use object_store::path::Path;
use object_store::signer::Signer;
use sha2::Sha256;
use std::time::Duration;
use tempfile::TempDir;

const PORT: u16 = 10_000;
const ACCOUNT: &str = "musterlab";
/// For a server that only this machine reaches, and that ends with the test.
const KEY: &[u8] = b"a key for a laboratory on loopback only";
const API_VERSION: &str = "2023-11-03";

#[derive(Debug)]
pub struct Azurite {
    pub server: Server,
    endpoint: String,
    _folder: TempDir,
}

impl Azurite {
    pub fn start() -> Self {
        let folder = tempfile::Builder::new().prefix("azurite-").tempdir().unwrap();
        let (node, script) = tools::azurite();
        let address = own_address().to_string();
        let accounts = format!("{ACCOUNT}:{}", STANDARD.encode(KEY));
        let mut server = Server::start("azurite", folder.path(), &node, |command| {
            command.arg(script).args(["--blobHost", &address, "--blobPort", &PORT.to_string()]);
            command.args(["--location", "blobs", "--skipApiVersionCheck", "--disableTelemetry", "--silent"]);
            command.env("AZURITE_ACCOUNTS", accounts);
        });
        let endpoint = format!("http://{address}:{PORT}");
        wait_until("Azurite answers", || {
            server.assert_running();
            http::answers(&endpoint)
        });
        Self { server, endpoint, _folder: folder }
    }

    /// A new container. No client of blobs makes one, so the request is signed here.
    pub fn make_container(&self, container: &str) {
        let millis = i64::try_from(SystemClock.now().0).unwrap();
        let now = jiff::Timestamp::from_millisecond(millis).unwrap();
        let date = jiff::fmt::rfc2822::DateTimePrinter::new().timestamp_to_rfc9110_string(&now).unwrap();
        let to_sign = format!(
            "PUT\n\n\n\n\n\n\n\n\n\n\n\nx-ms-date:{date}\nx-ms-version:{API_VERSION}\n/{ACCOUNT}/{ACCOUNT}/{container}\nrestype:container"
        );
        let mut mac = Hmac::<Sha256>::new_from_slice(KEY).unwrap();
        mac.update(to_sign.as_bytes());
        let signature = STANDARD.encode(mac.finalize().into_bytes());
        let url = format!("{}/{ACCOUNT}/{container}?restype=container", self.endpoint);
        let authorization = format!("SharedKey {ACCOUNT}:{signature}");
        let headers = [("x-ms-date", date.as_str()), ("x-ms-version", API_VERSION), ("authorization", &authorization)];
        let answer = http::put(&url, &headers, "");
        assert!(matches!(answer, Some((201, _))), "{answer:?}");
    }

    fn client(&self, container: &str) -> MicrosoftAzure {
        muster_vault::choose_tls();
        let options = object_store::ClientOptions::new().with_allow_http(true).with_no_system_certificates(true);
        let builder = MicrosoftAzureBuilder::new().with_endpoint(format!("{}/{ACCOUNT}", self.endpoint));
        let builder = builder.with_account(ACCOUNT).with_access_key(STANDARD.encode(KEY));
        builder.with_container_name(container).with_client_options(options).build().unwrap()
    }

    /// A request for one blob, signed for ten minutes.
    pub async fn signed(&self, method: &str, container: &str, blob: &str) -> String {
        let method = method.parse().unwrap();
        let client = self.client(container);
        client.signed_url(method, &Path::from(blob), Duration::from_secs(600)).await.unwrap().to_string()
    }

    pub fn store(&self, container: &str, prefix: &str) -> Store {
        Store {
            url: format!("az://{ACCOUNT}/{container}/{prefix}?endpoint={}", self.endpoint),
            environment: vec![("AZURE_STORAGE_ACCOUNT_KEY".to_owned(), STANDARD.encode(KEY))],
        }
    }
}
