//! SCRAM users: told, and made from passwords (RFC 5802; KIP-554 has clients salt them).

use std::collections::BTreeSet;
use std::num::NonZeroU32;

use krafka::admin::{
    AlterUserScramCredentialsOptions, DescribeUserScramCredentialsOptions, ScramCredentialUpsertion,
};
use krafka::auth::ScramMechanism;
use kutover_core::error::{ErrorKind, ProviderError, ProviderResult};
use kutover_core::ports::ScramUsers;
use ring::pbkdf2;
use ring::rand::{SecureRandom as _, SystemRandom};

use super::{explain, if_known};
use crate::admin::KafkaAdmin;

/// How often a password is hashed: what Kafka's own tools do (`ScramMechanism` in its sources says 4096 at least).
const ITERATIONS: NonZeroU32 = NonZeroU32::new(8192).unwrap();
const SALT_BYTES: usize = 24;

const MECHANISMS: [ScramMechanism; 2] = [ScramMechanism::Sha256, ScramMechanism::Sha512];

impl KafkaAdmin {
    pub(super) async fn read_scram_users(&self) -> ProviderResult<Option<ScramUsers>> {
        let what = "read SCRAM users";
        let options = DescribeUserScramCredentialsOptions::default();
        let answer = self.admin.describe_user_scram_credentials(None, options).await;
        let Some(found) = if_known(what, answer)? else { return Ok(None) };
        let mut users = ScramUsers::new();
        for (user, credentials) in found {
            let what = format!("{what}: {user}");
            let credentials = credentials.map_err(|error| explain(&what, &error))?;
            let mechanisms = credentials.iter().map(|known| known.mechanism.mechanism_name().to_owned());
            users.insert(user, mechanisms.collect());
        }
        Ok(Some(users))
    }

    /// Makes the users whose passwords are known; gives the others.
    pub(super) async fn make_scram_users(&self, users: &ScramUsers) -> ProviderResult<ScramUsers> {
        let mut left = ScramUsers::new();
        let mut made = Vec::new();
        for (user, mechanisms) in users {
            match self.config.scram_passwords.get(user) {
                None => {
                    left.insert(user.clone(), mechanisms.clone());
                }
                Some(password) => made.extend(credentials(user, password, mechanisms)?),
            }
        }
        // A user may stand in one request once (DuplicateResource on 3.9.2), so each mechanism has its own.
        for mechanism in MECHANISMS {
            let of_it = made.iter().filter(|credential| credential.mechanism == mechanism);
            self.put_credentials(of_it.cloned().collect()).await?;
        }
        Ok(left)
    }

    async fn put_credentials(&self, credentials: Vec<ScramCredentialUpsertion>) -> ProviderResult<()> {
        if credentials.is_empty() {
            return Ok(());
        }
        let options = AlterUserScramCredentialsOptions::default();
        let answers = self.admin.alter_user_scram_credentials(Vec::new(), credentials, options).await;
        for (user, answer) in answers.map_err(|error| explain("make SCRAM users", &error))? {
            answer.map_err(|error| explain(&format!("make SCRAM user {user}"), &error))?;
        }
        Ok(())
    }
}

fn credentials(
    user: &str,
    password: &str,
    mechanisms: &BTreeSet<String>,
) -> ProviderResult<Vec<ScramCredentialUpsertion>> {
    let what = format!("make SCRAM user {user}");
    let failed = |reason: &str| ProviderError::new(ErrorKind::Invalid, &what, reason);
    if !password.is_ascii() {
        // Others would have to be normalised (RFC 4013), or clients could not log in with them.
        return Err(failed(
            "its password has other characters than ASCII; make the user with Kafka's own tools",
        ));
    }
    let mut made = Vec::new();
    for name in mechanisms {
        let mechanism = MECHANISMS.into_iter().find(|known| known.mechanism_name() == name);
        let mechanism = mechanism.ok_or_else(|| failed("its mechanism is not known"))?;
        let mut salt = vec![0; SALT_BYTES];
        SystemRandom::new().fill(&mut salt).map_err(|_| failed("this machine gives no random bytes"))?;
        made.push(ScramCredentialUpsertion {
            name: user.to_owned(),
            mechanism,
            iterations: i32::try_from(ITERATIONS.get()).unwrap_or(i32::MAX),
            salted_password: salted(mechanism, &salt, password).into(),
            salt: salt.into(),
        });
    }
    Ok(made)
}

fn salted(mechanism: ScramMechanism, salt: &[u8], password: &str) -> Vec<u8> {
    let algorithm = match mechanism {
        ScramMechanism::Sha256 => pbkdf2::PBKDF2_HMAC_SHA256,
        _ => pbkdf2::PBKDF2_HMAC_SHA512,
    };
    let mut hash = vec![0; mechanism.hash_length()];
    pbkdf2::derive(algorithm, ITERATIONS, salt, password.as_bytes(), &mut hash);
    hash
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_credential_has_a_salt_of_its_own_and_no_password() {
        let both = MECHANISMS.map(|mechanism| mechanism.mechanism_name().to_owned()).into();
        let made = credentials("shop", "hunter2", &both).unwrap();
        assert_eq!(made.len(), 2);
        assert_ne!(made[0].salt, made[1].salt);
        for credential in &made {
            assert_eq!(credential.salted_password.len(), credential.mechanism.hash_length());
            assert!(!format!("{credential:?}").contains("hunter2"));
        }
        let error = credentials("shop", "h\u{fc}nter2", &both).unwrap_err().to_string();
        assert!(error.contains("ASCII") && !error.contains("nter2"), "{error}");
    }
}
