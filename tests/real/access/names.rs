//! By which of its names a certificate is known, over real TLS: a SPIFFE id before a DNS name before a common name, and
//! of several the first.

use model::clock::Clock;
use proto::v1::CreatePrincipalRequest;
use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, Issuer, KeyPair, SanType};

use super::{denied, user, who_am_i};
use crate::harness::call::Address;
use crate::harness::{Caller, Daemon, context, shared};

/// Connects with a certificate of the client CA that has these names, in this order.
async fn connect(daemon: &Daemon, common: &str, names: &[SanType]) -> Caller {
    let Address { url, ca, .. } = daemon.address();
    let key = KeyPair::from_pem(&std::fs::read_to_string(daemon.client_authority_key()).unwrap()).unwrap();
    let issuer = Issuer::from_ca_cert_pem(&ca, key).unwrap();
    let now = Clock::system().calendar();
    let mut params = CertificateParams::default();
    (params.not_before, params.not_after) = ((now - super::HOUR).into(), (now + super::HOUR).into());
    params.distinguished_name = rcgen::DistinguishedName::new();
    if !common.is_empty() {
        params.distinguished_name.push(DnType::CommonName, common);
    }
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params.subject_alt_names = names.to_vec();
    let own = KeyPair::generate().unwrap();
    let certificate = params.signed_by(&own, &issuer).unwrap().pem();
    Address { url, ca, certificate, key: own.serialize_pem() }.connect().await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_with_several_names_is_known_by_one() {
    let daemon = shared().await;
    let admin = daemon.caller().await;
    let key = admin.create_key("of names").await;
    let uri = |uri: &str| SanType::URI(uri.try_into().unwrap());
    let dns = |name: &str| SanType::DnsName(name.try_into().unwrap());
    let (spiffe, other) = (uri("spiffe://names.example/a"), uri("spiffe://names.example/b"));
    let (host, second, web) = (dns("a.names.example"), dns("b.names.example"), uri("https://names.example/"));
    let mail = SanType::Rfc822Name("a@names.example".try_into().unwrap());
    let cases = [
        (&[host.clone(), second.clone(), web.clone(), spiffe, other][..], "names", "spiffe://names.example/a"),
        (&[web.clone(), mail.clone(), host.clone(), second][..], "names", "dns:a.names.example"),
        (&[web, mail][..], "names", "cn:names"),
        (&[host][..], "", "dns:a.names.example"),
    ];
    for (names, common, known) in &cases {
        let caller = connect(&daemon, common, names).await;
        assert_eq!(who_am_i(&caller).await.identity, *known);
    }

    // A name that does not count gives nothing, whoever has it.
    let identities = vec!["cn:names".to_owned()];
    let request = CreatePrincipalRequest { arn: user("names"), identities, ..Default::default() };
    admin.access.clone().create_principal(admin.request(request)).await.unwrap();
    for (names, common, known) in &cases {
        let caller = connect(&daemon, common, names).await;
        let says = if *known == "cn:names" { "because nothing allows it" } else { "is mapped to no principal" };
        denied(caller.encrypt(&key, b"x", &context(&[])).await, says);
        assert_eq!(who_am_i(&caller).await.principal.is_some(), *known == "cn:names", "{known}");
    }
}
