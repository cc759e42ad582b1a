//! A SeaweedFS cluster: three masters that elect a leader, three volume servers of which one may die (every volume has a
//! second copy on another server), one filer, and two S3 gateways in front of it.

use crate::http;
use crate::server::{Server, own_address, wait_until};
use crate::{Store, tools};
use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::path::Path;
use object_store::signer::{SignedUrlOptions, Signer};
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::Duration;
use tempfile::TempDir;
use ureq::http::{HeaderName, HeaderValue};

pub const MASTERS: usize = 3;
pub const VOLUME_SERVERS: usize = 3;
pub const GATEWAYS: usize = 2;

const MASTER_PORT: u16 = 9333;
const VOLUME_PORT: u16 = 8081;
const FILER_PORT: u16 = 8888;
const GATEWAY_PORT: u16 = 8333;
/// One more copy, on another server of the same rack.
const REPLICATION: &str = "001";
const KEY_ID: &str = "lab";
/// For servers that only this machine reaches, and that end with the test.
const KEY: &str = "labsecret";

#[derive(Debug)]
pub struct SeaweedFs {
    address: Ipv4Addr,
    folder: TempDir,
    weed: PathBuf,
    pub masters: Vec<Server>,
    pub volumes: Vec<Server>,
    pub filer: Option<Server>,
    pub gateways: Vec<Server>,
}

impl SeaweedFs {
    /// All of it, ready to be written to.
    pub fn start() -> Self {
        let folder = tempfile::Builder::new().prefix("weed-").tempdir().unwrap();
        let mut cluster = Self {
            address: own_address(),
            folder,
            weed: tools::weed(),
            masters: Vec::new(),
            volumes: Vec::new(),
            filer: None,
            gateways: Vec::new(),
        };
        let identities = format!(
            r#"{{"identities":[{{"name":"lab","credentials":[{{"accessKey":"{KEY_ID}","secretKey":"{KEY}"}}],"actions":["Admin","Read","Write","List","Tagging"]}}]}}"#
        );
        std::fs::write(cluster.folder.path().join("s3.json"), identities).unwrap();
        cluster.masters = (0..MASTERS).map(|number| cluster.master(number)).collect();
        cluster.volumes = (0..VOLUME_SERVERS).map(|number| cluster.volume_server(number)).collect();
        wait_until("the masters have a leader", || cluster.leader().is_some());
        cluster.filer = Some(cluster.start_filer());
        wait_until("all volume servers are known", || cluster.known_volume_servers() == VOLUME_SERVERS);
        let filer = cluster.url(FILER_PORT, "/");
        wait_until("the filer answers", || http::answers(&filer));
        cluster.gateways = (0..GATEWAYS).map(|number| cluster.gateway(number)).collect();
        for number in 0..GATEWAYS {
            let gateway = cluster.endpoint(number);
            wait_until("the gateway answers", || {
                cluster.gateways[number].assert_running();
                http::answers(&gateway)
            });
        }
        cluster
    }

    fn url(&self, port: u16, path: &str) -> String {
        format!("http://{}:{port}{path}", self.address)
    }

    fn masters_list(&self) -> String {
        let all: Vec<String> =
            (0..MASTERS).map(|number| format!("{}:{}", self.address, MASTER_PORT + number as u16)).collect();
        all.join(",")
    }

    fn serve(&self, name: &str, words: &[String]) -> Server {
        let folder = self.folder.path().join(name);
        Server::start(name, &folder, &self.weed, |command| {
            command.arg("-logtostderr=true").args(words);
        })
    }

    fn master(&self, number: usize) -> Server {
        let (address, peers) = (self.address, self.masters_list());
        self.serve(
            &format!("master{number}"),
            &[
                "master".into(),
                format!("-ip={address}"),
                format!("-ip.bind={address}"),
                format!("-port={}", MASTER_PORT + number as u16),
                "-mdir=.".into(),
                format!("-peers={peers}"),
                format!("-defaultReplication={REPLICATION}"),
                "-volumeSizeLimitMB=128".into(),
                // As many as one bucket needs; each takes a moment.
                "-volumePreallocate=false".into(),
            ],
        )
    }

    fn volume_server(&self, number: usize) -> Server {
        let (address, masters) = (self.address, self.masters_list());
        let port = VOLUME_PORT + number as u16;
        self.serve(
            &format!("volume{number}"),
            &[
                "volume".into(),
                format!("-ip={address}"),
                format!("-ip.bind={address}"),
                format!("-port={port}"),
                format!("-port.grpc={}", port + 10_000),
                "-dir=.".into(),
                "-max=60".into(),
                format!("-mserver={masters}"),
                "-rack=r1".into(),
                "-dataCenter=d1".into(),
            ],
        )
    }

    fn start_filer(&self) -> Server {
        let (address, masters) = (self.address, self.masters_list());
        self.serve(
            "filer",
            &[
                "filer".into(),
                format!("-ip={address}"),
                format!("-ip.bind={address}"),
                format!("-port={FILER_PORT}"),
                format!("-master={masters}"),
                format!("-defaultReplicaPlacement={REPLICATION}"),
                "-s3=false".into(),
                // Its place by default is one of the whole machine.
                "-localSocket=filer.sock".into(),
            ],
        )
    }

    fn gateway(&self, number: usize) -> Server {
        let port = GATEWAY_PORT + number as u16;
        let identities = self.folder.path().join("s3.json");
        self.serve(
            &format!("gateway{number}"),
            &[
                "s3".into(),
                format!("-ip.bind={}", self.address),
                format!("-port={port}"),
                format!("-port.grpc={}", port + 10_000),
                "-localSocket=s3.sock".into(),
                "-port.lance=0".into(),
                "-port.iceberg=0".into(),
                format!("-filer={}:{FILER_PORT}", self.address),
                format!("-config={}", identities.display()),
            ],
        )
    }

    /// The number of the master that leads now, by the word of those that answer.
    pub fn leader(&self) -> Option<usize> {
        (0..self.masters.len()).find(|number| {
            let status = http::get(&self.url(MASTER_PORT + *number as u16, "/cluster/status"));
            status.is_some_and(|status| status.contains("\"IsLeader\":true"))
        })
    }

    fn known_volume_servers(&self) -> usize {
        let Some(leader) = self.leader() else { return 0 };
        let status = http::get(&self.url(MASTER_PORT + leader as u16, "/dir/status")).unwrap_or_default();
        (0..VOLUME_SERVERS).filter(|number| status.contains(&format!(":{}\"", VOLUME_PORT + *number as u16))).count()
    }

    /// SIGKILL of one of them, and not before it is gone.
    pub fn kill_volume_server(&mut self, number: usize) {
        self.volumes[number].kill();
    }

    /// SIGKILL of the leading master; answers with its number.
    pub fn kill_leader(&mut self) -> usize {
        let leader = self.leader().expect("a leader");
        self.masters[leader].kill();
        leader
    }

    /// Starts a master that was killed again, with what it had on its disk.
    pub fn revive_master(&mut self, number: usize) {
        self.masters[number] = self.master(number);
    }

    /// The same for a volume server.
    pub fn revive_volume_server(&mut self, number: usize) {
        self.volumes[number] = self.volume_server(number);
    }

    pub fn endpoint(&self, gateway: usize) -> String {
        self.url(GATEWAY_PORT + gateway as u16, "")
    }

    fn client(&self, bucket: &str) -> AmazonS3 {
        muster_vault::choose_tls();
        let builder = AmazonS3Builder::new().with_endpoint(self.endpoint(0)).with_allow_http(true);
        let builder = builder.with_access_key_id(KEY_ID).with_secret_access_key(KEY).with_region("us-east-1");
        let options = object_store::ClientOptions::new().with_allow_http(true).with_no_system_certificates(true);
        builder.with_client_options(options).with_bucket_name(bucket).build().unwrap()
    }

    /// A request to the gateway, signed for ten minutes.
    pub async fn signed(&self, method: &str, bucket: &str, object: &str) -> String {
        let path = if object.is_empty() { Path::default() } else { Path::from(object) };
        let method = method.parse().unwrap();
        self.client(bucket).signed_url(method, &path, Duration::from_secs(600)).await.unwrap().to_string()
    }

    /// A new bucket; the first writes to a new cluster may have to wait for its volumes.
    pub async fn make_bucket(&self, bucket: &str) {
        let url = self.signed("PUT", bucket, "").await;
        wait_until("a bucket is made", || matches!(http::put(&url, &[], ""), Some((200 | 409, _))));
    }

    /// A new bucket whose object lock keeps every version of what is written to it for a day; nobody can shorten that.
    pub async fn make_locked_bucket(&self, bucket: &str) {
        let lock = [("x-amz-bucket-object-lock-enabled", "true")];
        let (name, value) = (HeaderName::from_static(lock[0].0), HeaderValue::from_static(lock[0].1));
        let options = SignedUrlOptions::default().with_signed_header(name, value);
        let url = self.asking("PUT", bucket, "", options).await;
        wait_until("a bucket with object lock is made", || matches!(http::put(&url, &lock, ""), Some((200 | 409, _))));
        let rule = "<ObjectLockConfiguration xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><ObjectLockEnabled>Enabled\
                    </ObjectLockEnabled><Rule><DefaultRetention><Mode>COMPLIANCE</Mode><Days>1</Days></DefaultRetention>\
                    </Rule></ObjectLockConfiguration>";
        let url = self.asking("PUT", bucket, "", asked(&[("object-lock", "")])).await;
        let (status, said) = http::put(&url, &[], rule).expect("the gateway answers");
        assert_eq!(status, 200, "{said}");
    }

    /// All versions below a prefix, as object and version.
    pub async fn versions(&self, bucket: &str, prefix: &str) -> Vec<(String, String)> {
        let query = asked(&[("versions", ""), ("prefix", prefix), ("max-keys", "1000")]);
        let url = self.asking("GET", bucket, "", query).await;
        let listed = http::get(&url).expect("the gateway lists versions");
        let inside = |text: &str, tag: &str| {
            let (_, rest) = text.split_once(&format!("<{tag}>"))?;
            rest.split_once(&format!("</{tag}>")).map(|(inside, _)| inside.to_owned())
        };
        let versions = listed.split("<Version>").skip(1);
        versions.filter_map(|version| Some((inside(version, "Key")?, inside(version, "VersionId")?))).collect()
    }

    /// What the gateway says when this version is to go for good, with the credentials of the vault.
    pub async fn delete_version(&self, bucket: &str, object: &str, version: &str) -> (u16, String) {
        let url = self.asking("DELETE", bucket, object, asked(&[("versionId", version)])).await;
        http::delete(&url).expect("the gateway answers")
    }

    async fn asking(&self, method: &str, bucket: &str, object: &str, options: SignedUrlOptions) -> String {
        let path = if object.is_empty() { Path::default() } else { Path::from(object) };
        let limit = Duration::from_secs(600);
        let signed = self.client(bucket).signed_url_opts(method.parse().unwrap(), &path, limit, &options).await;
        signed.unwrap().to_string()
    }

    /// A place in a bucket, through one of the gateways.
    pub fn store(&self, bucket: &str, prefix: &str, gateway: usize) -> Store {
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        Store {
            url: format!("s3://{bucket}/{prefix}?endpoint={}", self.endpoint(gateway)),
            environment: vec![pair("AWS_ACCESS_KEY_ID", KEY_ID), pair("AWS_SECRET_ACCESS_KEY", KEY)],
        }
    }
}

/// What a request asks for besides its place.
fn asked(query: &[(&str, &str)]) -> SignedUrlOptions {
    SignedUrlOptions::default().with_query(query.iter().copied())
}
