//! Certificate authorities in PEM form. A user may name any key of any Secret, even a private key, so the text is parsed
//! before anything else uses it, and no error quotes any part of it.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

/// The only PEM label that a bundle may contain.
const LABEL: &str = "CERTIFICATE";

/// Characters per line of PEM.
const LINE: usize = 64;

/// Why a text is not a bundle of certificate authorities. The messages are fixed: none quotes the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidBundle {
    /// It contains no certificate.
    #[error("it contains no certificate in PEM form")]
    Empty,
    /// It contains a section other than a certificate.
    #[error("it contains something other than certificates, such as a private key")]
    Other,
    /// The PEM encoding is invalid.
    #[error("its PEM encoding is invalid")]
    Malformed,
    /// A section does not contain a certificate.
    #[error("a certificate in it is not valid X.509")]
    Certificate,
}

/// One or more certificate authorities, all of them parsed.
#[derive(Clone, PartialEq, Eq)]
pub struct CaBundle(Vec<CertificateDer<'static>>);

impl CaBundle {
    /// Parses PEM. Ignores lines outside of its sections, such as comments.
    ///
    /// # Errors
    /// The text contains anything but valid certificates, or none.
    pub fn parse(pem: &str) -> Result<Self, InvalidBundle> {
        let labels = pem.lines().filter_map(|line| line.trim().strip_prefix("-----BEGIN "));
        for label in labels {
            if label.trim_end_matches('-').trim() != LABEL {
                return Err(InvalidBundle::Other);
            }
        }
        let certificates: Result<Vec<CertificateDer<'static>>, _> =
            CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
        let certificates = certificates.map_err(|_| InvalidBundle::Malformed)?;
        if certificates.is_empty() {
            return Err(InvalidBundle::Empty);
        }
        let mut roots = RootCertStore::empty();
        for certificate in &certificates {
            roots.add(certificate.clone()).map_err(|_| InvalidBundle::Certificate)?;
        }
        Ok(Self(certificates))
    }

    /// Returns the certificates, at least one.
    pub fn certificates(&self) -> &[CertificateDer<'static>] {
        &self.0
    }

    /// Returns the certificates as trust anchors.
    pub fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        // `parse` has already added each once.
        roots.add_parsable_certificates(self.0.iter().cloned());
        roots
    }

    /// Encodes the certificates, and nothing else, in PEM form.
    pub fn pem(&self) -> String {
        let section = |certificate: &CertificateDer<'_>| {
            let encoded = BASE64.encode(certificate);
            let lines: Vec<&str> = (0..encoded.len())
                .step_by(LINE)
                .filter_map(|at| encoded.get(at..(at + LINE).min(encoded.len())))
                .collect();
            format!("-----BEGIN {LABEL}-----\n{}\n-----END {LABEL}-----\n", lines.join("\n"))
        };
        self.0.iter().map(section).collect()
    }
}

impl fmt::Debug for CaBundle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CaBundle({} certificates)", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made() -> (String, String) {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        (made.cert.pem(), made.signing_key.serialize_pem())
    }

    #[test]
    fn certificates_round_trip() {
        let (one, two) = (made().0, made().0);
        let bundle = CaBundle::parse(&format!("# of the platform team\n{one}\nsubject=CN\n{two}")).unwrap();
        assert_eq!((bundle.certificates().len(), bundle.roots().len()), (2, 2));
        assert_eq!(CaBundle::parse(&bundle.pem()).unwrap(), bundle);
        assert_eq!(format!("{bundle:?}"), "CaBundle(2 certificates)");
    }

    #[test]
    fn anything_but_certificates_is_rejected_and_not_quoted() {
        let (certificate, key) = made();
        let line = key.lines().nth(1).unwrap();
        let cut = key.lines().next().unwrap().to_owned() + line;
        let not_x509 = format!("-----BEGIN CERTIFICATE-----\n{line}\n-----END CERTIFICATE-----\n");
        for (pem, expected) in [
            (String::new(), InvalidBundle::Empty),
            (line.to_owned(), InvalidBundle::Empty),
            (key.clone(), InvalidBundle::Other),
            (cut, InvalidBundle::Other),
            (format!("{certificate}{key}"), InvalidBundle::Other),
            (format!("{certificate}  {key}"), InvalidBundle::Other),
            (format!("{key}{certificate}"), InvalidBundle::Other),
            (key.replace("PRIVATE KEY", "SOMETHING"), InvalidBundle::Other),
            (key.replace("PRIVATE KEY", "CERTIFICATE"), InvalidBundle::Certificate),
            (format!("-----BEGIN CERTIFICATE-----\n{line}"), InvalidBundle::Malformed),
            (format!("-----BEGIN CERTIFICATE-----{line}\n"), InvalidBundle::Other),
            (not_x509.replace(line, &format!("!{line}")), InvalidBundle::Malformed),
            (not_x509, InvalidBundle::Certificate),
        ] {
            let error = CaBundle::parse(&pem).unwrap_err();
            assert_eq!(error, expected, "{pem}");
            for shown in [error.to_string(), format!("{error:?}")] {
                assert!(!shown.contains(line), "{shown}");
            }
        }
    }
}
