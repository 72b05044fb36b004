//! The certificates and keys of one cluster, signed by a certificate authority of its own.

use std::{
    fs::File,
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use rcgen::{
    BasicConstraints, Certificate, CertificateParams, DnType, ExtendedKeyUsagePurpose as Usage, IsCa, Issuer,
    KeyPair, KeyUsagePurpose,
};

use crate::Error;

/// A certificate and its key, in PEM format and as files.
#[derive(Debug)]
pub(crate) struct Identity {
    pub(crate) certificate: String,
    pub(crate) key: String,
    pub(crate) certificate_file: PathBuf,
    pub(crate) key_file: PathBuf,
}

/// The certificates and keys of the control plane and Postgres.
#[derive(Debug)]
pub(crate) struct Pki {
    pub(crate) ca: String,
    pub(crate) ca_file: PathBuf,
    pub(crate) apiserver: Identity,
    pub(crate) etcd: Identity,
    pub(crate) postgres: Identity,
    pub(crate) admin: Identity,
    pub(crate) controller_manager: Identity,
    pub(crate) service_account_key: PathBuf,
    pub(crate) service_account_public_key: PathBuf,
    authority: Authority,
}

/// The certificates and keys of a node's servers.
#[derive(Debug)]
pub(crate) struct NodePki {
    pub(crate) kubelet: Identity,
    pub(crate) kubelet_server: Identity,
    pub(crate) scheduler: Identity,
    pub(crate) proxy: Identity,
}

impl NodePki {
    /// Creates the certificates. `hosts` are the name of the node, and then its other names and addresses.
    pub(crate) fn create(pki: &Pki, hosts: &[&str]) -> Result<Self, Error> {
        let name = hosts.first().copied().unwrap_or_default();
        let authority = &pki.authority;
        Ok(Self {
            kubelet: authority.client(&format!("system:node:{name}"), Some("system:nodes"))?,
            kubelet_server: authority.server("kubelet", hosts)?,
            scheduler: authority.client("system:kube-scheduler", None)?,
            proxy: authority.client("system:kube-proxy", None)?,
        })
    }
}

impl Pki {
    /// Creates the certificates and keys in `folder`. `address` is an additional address of the servers besides
    /// loopback.
    pub(crate) fn create(folder: &Path, address: Option<&str>) -> Result<Self, Error> {
        const LOOPBACK: [&str; 2] = ["127.0.0.1", "localhost"];
        let authority = Authority::create(folder)?;
        let hosts: Vec<_> = LOOPBACK.into_iter().chain(address).collect();
        let mut names = hosts.clone();
        names.extend(["10.96.0.1", "kubernetes", "kubernetes.default", "kubernetes.default.svc"]);
        names.push("kubernetes.default.svc.cluster.local");
        let tokens = KeyPair::generate()?;
        let service_account_key = folder.join("service-account.key");
        let service_account_public_key = folder.join("service-account.pub");
        write_private(&service_account_key, &tokens.serialize_pem())?;
        write_private(&service_account_public_key, &tokens.public_key_pem())?;
        Ok(Self {
            apiserver: authority.server("kube-apiserver", &names)?,
            etcd: authority.server("etcd", &LOOPBACK)?,
            postgres: authority.server("postgres", &hosts)?,
            admin: authority.client("devcluster-admin", Some("system:masters"))?,
            controller_manager: authority.client("system:kube-controller-manager", None)?,
            ca: authority.certificate.pem(),
            ca_file: authority.file.clone(),
            service_account_key,
            service_account_public_key,
            authority,
        })
    }
}

#[derive(Debug)]
struct Authority {
    folder: PathBuf,
    certificate: Certificate,
    file: PathBuf,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn create(folder: &Path) -> Result<Self, Error> {
        let mut params = CertificateParams::new(Vec::new())?;
        params.distinguished_name.push(DnType::CommonName, "devcluster");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        let key = KeyPair::generate()?;
        let certificate = params.self_signed(&key)?;
        let file = folder.join("ca.crt");
        write_private(&file, &certificate.pem())?;
        Ok(Self { folder: folder.to_owned(), certificate, file, issuer: Issuer::new(params, key) })
    }

    fn server(&self, name: &str, hosts: &[&str]) -> Result<Identity, Error> {
        self.issue(name, None, hosts, Usage::ServerAuth)
    }

    fn client(&self, name: &str, group: Option<&str>) -> Result<Identity, Error> {
        self.issue(name, group, &[], Usage::ClientAuth)
    }

    fn issue(
        &self,
        name: &str,
        group: Option<&str>,
        hosts: &[&str],
        usage: Usage,
    ) -> Result<Identity, Error> {
        // The default validity is practically unlimited, so a wrong clock does not matter.
        let mut params = CertificateParams::new(hosts.iter().map(ToString::to_string).collect::<Vec<_>>())?;
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        if let Some(group) = group {
            params.distinguished_name.push(DnType::OrganizationName, group);
        }
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![usage];
        params.use_authority_key_identifier_extension = true;
        let pair = KeyPair::generate()?;
        let certificate = params.signed_by(&pair, &self.issuer)?.pem();
        let key = pair.serialize_pem();
        let stem = name.trim_start_matches("system:").replace(':', "-");
        let certificate_file = self.folder.join(format!("{stem}.crt"));
        let key_file = self.folder.join(format!("{stem}.key"));
        write_private(&certificate_file, &certificate)?;
        write_private(&key_file, &key)?;
        Ok(Identity { certificate, key, certificate_file, key_file })
    }
}

/// Writes a new file that only its owner can read.
pub(crate) fn write_private(path: &Path, text: &str) -> Result<(), Error> {
    let file = File::options().write(true).create_new(true).mode(0o600).open(path);
    file.and_then(|mut file| file.write_all(text.as_bytes())).map_err(Error::io("write", path))
}
