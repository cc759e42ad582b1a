//! What can go wrong in the lab. Everything here ends a test or a demonstration, so the message is the product.

use std::path::PathBuf;

pub type Result<T, E = Error> = std::result::Result<T, E>;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the lab needs programs that are not here: {what}; install them with `apt-get install {packages}`")]
    Missing { what: String, packages: String },
    #[error("the lab makes network namespaces and bridges: run it as root")]
    NotRoot,
    #[error("{}: {source}", path.display())]
    File { path: PathBuf, source: std::io::Error },
    #[error("`{command}` failed ({status}): {output}")]
    Command { command: String, status: String, output: String },
    #[error("{0}")]
    Said(String),
}

impl Error {
    pub(crate) fn file(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { path, source }
    }
}
