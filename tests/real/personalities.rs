//! HSMs of vendors, played by chaos-hsm, on the whole way that an operator and callers go with them: the ceremony, a
//! connect that rotates the PIN, keys, every way to encrypt, a further member, HSMs that fail under load, destruction and a
//! restart. Each HSM is configured by its profile's name, and by no more than docs/hsms.md has an operator say.
//!
//! Played from documents: that they get through here says that keystored does what these vendors have written, not that
//! their devices do.

mod given;
mod way;

use crate::harness::daemon::Site;
use crate::harness::habits::{
    CLOUDHSM, CLOUDHSM_WITH_CERTIFICATES, KRYOPTIC, LUNA, LUNA_FIPS, NSHIELD, PREPENDED, SOFTHSM, UTIMACO, UTIMACO_FIPS,
};
use way::{go, mistaken_for};

#[tokio::test(flavor = "multi_thread")]
async fn luna() {
    go([&LUNA, &LUNA], &LUNA).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn luna_in_fips_mode_whose_ivs_follow_the_tag() {
    go([&LUNA_FIPS, &LUNA_FIPS], &LUNA_FIPS).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nshield() {
    go([&NSHIELD, &NSHIELD], &NSHIELD).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn utimaco_in_either_mode() {
    go([&UTIMACO, &UTIMACO], &UTIMACO_FIPS).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ivs_that_stand_before_the_ciphertext() {
    go([&PREPENDED, &PREPENDED], &PREPENDED).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_clusters_of_cloudhsm_and_then_softhsm() {
    go([&CLOUDHSM, &CLOUDHSM], &SOFTHSM).await;
}

/// One that holds no certificates joins one that holds them, and one that is nobody's cluster.
#[tokio::test(flavor = "multi_thread")]
async fn softhsm_beside_cloudhsm_with_certificates_and_then_one_without() {
    go([&SOFTHSM, &CLOUDHSM_WITH_CERTIFICATES], &CLOUDHSM).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn luna_beside_nshield_and_then_softhsm() {
    go([&LUNA, &NSHIELD], &SOFTHSM).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn softhsm_beside_kryoptic_and_then_luna() {
    go([&SOFTHSM, &KRYOPTIC], &LUNA).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn luna_in_fips_mode_beside_softhsm_and_then_nshield() {
    go([&LUNA_FIPS, &SOFTHSM], &NSHIELD).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ivs_before_the_ciphertext_beside_such_that_follow_it_and_then_utimaco() {
    go([&PREPENDED, &LUNA_FIPS], &UTIMACO_FIPS).await;
}

/// What is played is played: under another kind's profile no HSM comes to be a member, and what its IVs do is said.
#[tokio::test(flavor = "multi_thread")]
async fn an_hsm_with_other_habits_than_its_profile_stays_out() {
    let site = Site::prepare().await;
    for (is, other) in [
        (&LUNA, &NSHIELD),
        (&LUNA_FIPS, &UTIMACO),
        (&NSHIELD, &LUNA_FIPS),
        (&UTIMACO_FIPS, &UTIMACO),
        (&UTIMACO, &UTIMACO_FIPS),
        (&PREPENDED, &LUNA_FIPS),
    ] {
        let told = mistaken_for(&site, is, other);
        assert_ne!(told.code, Some(0), "{} as {}: {told:?}", is.name, other.name);
        let why = [
            "hsm-a, making the canary key: ",
            "hsm-a, looking for its token: the token cannot do what keystored needs",
        ];
        assert!(why.iter().any(|why| told.err.contains(why)), "{} as {}: {}", is.name, other.name, told.err);
    }
}
