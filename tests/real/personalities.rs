//! HSMs of vendors, played by chaos-hsm, on the whole way that an operator and callers go with them: the ceremony, a
//! connect that rotates the PIN, keys, every way to encrypt, a further member, HSMs that fail under load, destruction and a
//! restart. Each HSM is configured by its profile's name, and by no more than docs/hsms.md has an operator say.
//!
//! Played from documents: that they get through here says that keystored does what these vendors have written, not that
//! their devices do.

mod given;
mod way;

use crate::harness::habits::{CLOUDHSM, KRYOPTIC, LUNA, LUNA_FIPS, NSHIELD, PREPENDED, SOFTHSM, UTIMACO, UTIMACO_FIPS};
use way::go;

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
