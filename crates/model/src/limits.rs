//! Every bound that a caller can meet, in one place. AWS KMS's own figures unless a line says otherwise.

/// Longest plaintext of Encrypt, in bytes; the shortest is 1.
pub const PLAINTEXT_BYTES: usize = 4_096;
/// Longest data key or random string, in bytes; the shortest is 1.
pub const RANDOM_BYTES: usize = 1_024;
/// Longest ciphertext that Decrypt looks at, in bytes.
pub const CIPHERTEXT_BYTES: usize = 6_144;
/// Items of one batch call. Ours.
pub const BATCH_ITEMS: usize = 1_000;
/// Plaintext (in clear or, with Decrypt, encrypted) or data key bytes of one batch call, in bytes. Ours.
pub const BATCH_BYTES: usize = 1 << 20;
/// An encryption context in its encoded form (see [`super::context`]), in bytes. AWS names none for the map but sends
/// at most this much to an external key store proxy.
pub const CONTEXT_BYTES: usize = 8_192;
/// Longest key id, key ARN or alias in a request, in characters.
pub const KEY_REFERENCE_CHARS: usize = 2_048;
/// Longest alias, with its prefix `alias/`, in characters.
pub const ALIAS_CHARS: usize = 256;
/// Most aliases of one key, unless configured otherwise. One newer copy of AWS's table says 10.
pub const ALIASES_PER_KEY: usize = 50;
/// Most aliases that one page of ListAliases holds, and how many it holds when the caller names no figure.
pub const LIST_ALIASES_LIMIT: u32 = 100;
/// See [`LIST_ALIASES_LIMIT`].
pub const LIST_ALIASES_DEFAULT: u32 = 50;
/// Most tags that one page of ListResourceTags holds, and how many it holds when the caller names no figure.
pub const LIST_TAGS_LIMIT: u32 = 50;
/// Most tags of one key, unless configured otherwise.
pub const TAGS_PER_KEY: usize = 50;
/// Most tags of one key, however it is configured.
pub const MOST_TAGS_PER_KEY: usize = 1_000;
/// Longest key of a tag, in characters; the shortest is 1.
pub const TAG_KEY_CHARS: usize = 128;
/// Longest value of a tag, in characters; it may be empty.
pub const TAG_VALUE_CHARS: usize = 256;
/// Keys of one key store in whatever state, unless configured otherwise. Ours: each of them is an object in each HSM.
pub const KEYS_PER_KEY_STORE: usize = 1_000;
/// Rotations of a key on demand, unless configured otherwise.
pub const ON_DEMAND_ROTATIONS: usize = 25;
/// Shortest and longest period of rotation, and the one when the caller names none, in days.
pub const ROTATION_PERIOD_DAYS: (u32, u32) = (90, 2_560);
/// See [`ROTATION_PERIOD_DAYS`].
pub const ROTATION_PERIOD_DEFAULT: u32 = 365;
/// Shortest and longest waiting period of a deletion, in days; the longest is the one when the caller names none.
pub const DELETION_WINDOW_DAYS: (u32, u32) = (7, 30);
/// Longest description of a key, in characters.
pub const DESCRIPTION_CHARS: usize = 8_192;
/// Longest `client_token`, in characters. Ours.
pub const CLIENT_TOKEN_CHARS: usize = 128;
/// Most entries that one page of a list holds, and how many it holds when the caller names no figure.
pub const LIST_LIMIT: u32 = 1_000;
/// See [`LIST_LIMIT`].
pub const LIST_DEFAULT: u32 = 100;
/// Keys that ListKeys looks at for one page of a filtered list, which may be short because of it. Ours.
pub const LIST_LOOKED_AT: usize = 10_000;
/// Bytes of details after which a page of ListKeys ends, full or not. Ours.
pub const LIST_DETAILS_BYTES: usize = 1 << 20;
/// Bytes of records that one look at the audit log goes through, whatever it finds. Ours.
pub const AUDIT_LOOK_BYTES: usize = 16 << 20;
/// Bytes of records that are given at once to somebody who follows the audit log. Ours.
pub const AUDIT_FOLLOW_BYTES: usize = 256 << 10;
/// Longest record of the audit log, in bytes.
pub const AUDIT_RECORD_BYTES: usize = 65_535;
/// Tags that one filter of ListKeys names. Ours.
pub const FILTER_TAGS: usize = 50;
/// Largest gRPC message that is decoded, in bytes: a batch of 1 MiB with its contexts and ids.
pub const MESSAGE_BYTES: usize = 4 << 20;
/// Largest message of BatchDecrypt and BatchReEncrypt, in bytes: what a message of [`MESSAGE_BYTES`] made comes back with the same
/// contexts, and beside them the ciphertexts, which are at most [`BATCH_BYTES`] and 49 bytes an item, and the ARNs of
/// their keys.
pub const BATCH_DECRYPT_MESSAGE_BYTES: usize = MESSAGE_BYTES + BATCH_BYTES + BATCH_ITEMS * 256;
/// Calls that encrypt under one key version. Random 96-bit IVs keep the chance of a repeat under 2^-32 up to 2^32
/// encryptions (NIST SP 800-38D, section 8.3); half of that, because a call that is late or fails in one zone is
/// carried out in another one too.
pub const ENCRYPTIONS_PER_VERSION: u64 = 1 << 31;
/// Calls that encrypt after which a key is given a new version by itself. The rest up to
/// [`ENCRYPTIONS_PER_VERSION`] is for the time that this takes, zones that are away included.
pub const ENCRYPTIONS_BEFORE_ROTATION: u64 = 1 << 30;
/// Key stores of one installation, connected or not: AWS's quota.
pub const KEY_STORES: usize = 10;
/// Longest name of a key store, in characters.
pub const KEY_STORE_NAME_CHARS: usize = 256;
/// Longest id of a key store, in bytes.
pub const KEY_STORE_ID_BYTES: usize = 64;
/// Longest trust anchor certificate, in characters of PEM.
pub const TRUST_ANCHOR_CHARS: usize = 5_000;
/// Shortest and longest PIN of kmsuser, in bytes: SoftHSM's bounds, since AWS's (7 to 32 letters and digits) are
/// CloudHSM's.
pub const PIN_BYTES: (usize, usize) = (4, 255);
/// Longest label of a token, in bytes: PKCS#11's field.
pub const TOKEN_LABEL_BYTES: usize = 32;
/// Longest serial number of a token, in bytes: PKCS#11's field.
pub const TOKEN_SERIAL_BYTES: usize = 16;
/// HSMs of one cluster: a member's place is a bit of 64.
pub const HSMS: usize = 64;

/// Principals of one installation. Ours, as are the figures of groups and policies.
pub const PRINCIPALS: usize = 10_000;
/// Certificates by which one principal is known.
pub const IDENTITIES_PER_PRINCIPAL: usize = 20;
/// Access keys of one principal: AWS's quota, so that one can take the other's place.
pub const ACCESS_KEYS_PER_PRINCIPAL: usize = 2;
/// Longest id of an access key in a request, in characters; AWS's bound.
pub const ACCESS_KEY_ID_CHARS: usize = 128;
/// Administrators that the configuration names.
pub const ADMINISTRATORS: usize = 100;
/// Longest name of a certificate, in bytes.
pub const IDENTITY_BYTES: usize = 512;
/// Longest ARN of a principal, in bytes.
pub const PRINCIPAL_ARN_BYTES: usize = 256;
/// Tags of one principal.
pub const TAGS_PER_PRINCIPAL: usize = 50;
/// Groups of one installation.
pub const GROUPS: usize = 300;
/// Groups that one principal is in.
pub const GROUPS_PER_PRINCIPAL: usize = 10;
/// Identity policies of one installation.
pub const POLICIES: usize = 1_500;
/// Policies that are attached to one principal or to one group.
pub const POLICIES_PER_HOLDER: usize = 20;
/// Longest name of a group or of an identity policy, in characters.
pub const ACCESS_NAME_CHARS: usize = 128;
/// Policies on one page: each may have 32 KiB.
pub const LIST_POLICIES: u32 = 50;
/// Longest policy, in bytes.
pub const POLICY_BYTES: usize = 32 << 10;
/// Longest name of a permission, in bytes.
pub const ACTION_CHARS: usize = 128;
/// Longest ARN of whatever may be asked about, in bytes: AWS's bound of ARNs.
pub const RESOURCE_ARN_BYTES: usize = 2_048;
/// Grants of one key.
pub const GRANTS_PER_KEY: usize = 50_000;
/// Those of them that one grantee has: a decision may have to look at each.
pub const GRANTS_PER_GRANTEE: usize = 500;
/// Longest name of a grant, in characters.
pub const GRANT_NAME_CHARS: usize = 256;
/// Longest id of a grant, in characters.
pub const GRANT_ID_CHARS: usize = 128;
/// Longest grant token, in characters.
pub const GRANT_TOKEN_CHARS: usize = 8_192;
/// Most grant tokens of a request.
pub const GRANT_TOKENS: usize = 10;
/// Most grants that one page holds, and how many it holds when the caller names no figure.
pub const LIST_GRANTS_LIMIT: u32 = 100;
/// See [`LIST_GRANTS_LIMIT`].
pub const LIST_GRANTS_DEFAULT: u32 = 50;
/// Calls of one principal that wait for the approval of others.
pub const APPROVALS_PER_PRINCIPAL: usize = 10;
/// Calls that wait for the approval of others, in all.
pub const APPROVALS: usize = 1_000;

/// How much there may be of keys and what belongs to them: what the configuration says of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quotas {
    /// Keys of one key store, in whatever state.
    pub keys_per_key_store: usize,
    /// Aliases of one key.
    pub aliases_per_key: usize,
    /// Tags of one key.
    pub tags_per_key: usize,
    /// Rotations of one key on demand, in all.
    pub on_demand_rotations: usize,
}

impl Default for Quotas {
    fn default() -> Self {
        Self {
            keys_per_key_store: KEYS_PER_KEY_STORE,
            aliases_per_key: ALIASES_PER_KEY,
            tags_per_key: TAGS_PER_KEY,
            on_demand_rotations: ON_DEMAND_ROTATIONS,
        }
    }
}
