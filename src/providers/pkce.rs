//! Proof Key for Code Exchange (RFC 7636), in the dialects that providers speak.

use super::schema::{ChallengeWord, NeedWord, PkceForm};
use crate::core::Secret;
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use ring::digest;

/// How a challenge is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Pkce(ChallengeWord);

pub(super) fn checked(form: PkceForm) -> Option<Pkce> {
    match form.need {
        // RFC 9700 section 2.1.1 recommends it to clients that have a secret, too: it keeps a code that was
        // stolen on its way from being brought in by somebody else.
        NeedWord::Required | NeedWord::Optional => Some(Pkce(form.challenge)),
        NeedWord::None => None,
    }
}

impl Pkce {
    /// What the consent page is told of `verifier`.
    pub(super) fn challenge(self, verifier: &Secret) -> String {
        let hash = digest::digest(&digest::SHA256, verifier.expose().as_bytes());
        match self.0 {
            ChallengeWord::Base64url => BASE64_URL_SAFE_NO_PAD.encode(hash),
            ChallengeWord::Hex => hash.as_ref().iter().map(|byte| format!("{byte:02x}")).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_challenge_of_the_rfcs_own_example_reads_as_there_and_in_tiktoks_dialect_in_figures() {
        // RFC 7636 appendix B.
        let verifier = Secret::new("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk".to_owned());
        let by = |word| Pkce(word).challenge(&verifier);
        assert_eq!(by(ChallengeWord::Base64url), "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM");
        assert_eq!(
            by(ChallengeWord::Hex),
            "13d31e961a1ad8ec2f16b10c4c982e0876a878ad6df144566ee1894acb70f9c3"
        );
    }

    #[test]
    fn a_provider_that_goes_without_is_given_one_and_a_provider_that_knows_none_is_not() {
        let form = |need| PkceForm { need, challenge: ChallengeWord::Base64url };
        assert!(checked(form(NeedWord::Required)).is_some());
        assert!(checked(form(NeedWord::Optional)).is_some());
        assert!(checked(form(NeedWord::None)).is_none());
    }
}
