//! Writes self-contained kubeconfigs, which can be copied elsewhere.

use std::path::Path;

use base64::{Engine, prelude::BASE64_STANDARD};

use crate::{
    Error,
    pki::{self, Identity},
};

pub(crate) fn write(path: &Path, port: u16, ca: &str, user: &Identity) -> Result<(), Error> {
    let ca = BASE64_STANDARD.encode(ca);
    let certificate = BASE64_STANDARD.encode(&user.certificate);
    let key = BASE64_STANDARD.encode(&user.key);
    let text = format!(
        "apiVersion: v1
kind: Config
clusters:
- name: devcluster
  cluster:
    server: https://127.0.0.1:{port}
    certificate-authority-data: {ca}
users:
- name: devcluster
  user:
    client-certificate-data: {certificate}
    client-key-data: {key}
contexts:
- name: devcluster
  context:
    cluster: devcluster
    user: devcluster
current-context: devcluster
"
    );
    pki::write_private(path, &text)
}
