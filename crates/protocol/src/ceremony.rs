//! The steps of the ceremony inside one token, and what they answer.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::start::{CeremonyObjects, Token, UserFlags};
use super::wrapping::TransportKey;
use model::profile::Abilities;
use model::secret::Secret;

/// Steps of the ceremony inside one token.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum CeremonyOp {
    /// Which tokens the module shows, blank ones too; answered by `Tokens`. Without a token.
    Discover,
    /// Initialise a blank token; answered by `Done`. Without a token.
    InitToken {
        /// The new token's label, and which serial numbers the blank one may have.
        token: Token,
        /// Its security officer's PIN.
        so_pin: Secret,
    },
    /// Log in as security officer and set the user's PIN, in a token that has no user; answered by `Done`. Without a
    /// token.
    InitUserPin {
        /// How it is found.
        token: Token,
        /// Its security officer's PIN. Tried once.
        so_pin: Secret,
        /// kmsuser's PIN.
        user_pin: Secret,
    },
    /// Which ceremony objects the token holds; answered by `Inspected`.
    Inspect,
    /// Make the identity key pair if it is not there; answered by `IdentityKey`.
    MakeIdentityPair,
    /// Keep the certificate of a key pair in the token, in the place of an earlier one; answered by `Done`.
    StoreCertificate {
        /// Of which pair.
        of: Pair,
        /// DER of the certificate.
        certificate: Bytes,
        /// DER of its subject.
        subject: Bytes,
    },
    /// Make the RSA transport pair if it is not there; answered by `TransportKey`.
    MakeTransportPair,
    /// Make the canary key if it is not there; answered by `Done`.
    MakeCanary,
    /// Make a cluster wrapping key as an extractable session object, wrap it by RSA-OAEP to each of these, forget it;
    /// answered by `Blobs` in the same order.
    MakeWrappingKey {
        /// Transport keys of all tokens, this one's included.
        transports: Vec<TransportKey>,
    },
    /// Unwrap a blob as this token's cluster wrapping key, with its unwrap template; answered by `Done`.
    PlaceWrappingKey {
        /// From `MakeWrappingKey`, for this token.
        blob: Bytes,
    },
}

/// A key pair of the ceremony.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Pair {
    /// The identity key.
    Identity,
    /// The transport key.
    Transport,
}

/// A token that a module shows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenSeen {
    /// Its label; blank tokens have none, or any.
    pub label: String,
    /// Its serial number.
    pub serial: String,
    /// It has been initialised by a security officer.
    pub initialised: bool,
    /// What it says of its user.
    pub user: UserFlags,
    /// What it can do of what is needed, by its list of mechanisms.
    pub abilities: Abilities,
}

/// What the ceremony sees in a token.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inspected {
    /// Which objects it holds.
    pub objects: CeremonyObjects,
    /// DER of the identity key's certificate.
    pub identity_certificate: Option<Bytes>,
    /// DER of the transport key's certificate.
    pub transport_certificate: Option<Bytes>,
}
