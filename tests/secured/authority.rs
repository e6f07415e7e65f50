//! A certificate authority of the test's own.

use std::net::IpAddr;

use kutover_lab::Identity;
use pkcs8::pkcs5::pbes2::Parameters;
use pkcs8::{LineEnding, PrivateKeyInfo, SecretDocument};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, SanType,
};

/// Of the password's derivation and of the cipher: keys that live for a minute need no random ones.
const SALT: [u8; 16] = [7; 16];
const ROUNDS: u32 = 10_000;

/// A key under a password (PKCS #8, PBES2).
pub(crate) fn encrypted(key_pem: &str, password: &str) -> String {
    let (_, key) = SecretDocument::from_pem(key_pem).expect("a key");
    let key = PrivateKeyInfo::try_from(key.as_bytes()).expect("a key");
    let how = Parameters::pbkdf2_sha256_aes256cbc(ROUNDS, &SALT, &SALT).expect("parameters");
    let secret = key.encrypt_with_params(how, password).expect("encrypted");
    let pem = secret.to_pem("ENCRYPTED PRIVATE KEY", LineEnding::LF).expect("a PEM text");
    pem.as_str().to_owned()
}

/// An authority that was made a moment ago and that nobody else believes.
pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "kutover's tests");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().expect("a key");
        Self(CertifiedIssuer::self_signed(params, key).expect("a certificate"))
    }

    pub(crate) fn pem(&self) -> String {
        self.0.pem()
    }

    /// A certificate for whoever bears this name or has one of these addresses.
    pub(crate) fn issue(&self, name: &str, addresses: &[IpAddr]) -> Identity {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.subject_alt_names = addresses.iter().copied().map(SanType::IpAddress).collect();
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.0).expect("a certificate");
        Identity { chain_pem: certificate.pem(), key_pem: key.serialize_pem() }
    }
}
