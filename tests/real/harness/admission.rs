//! Admission for HSMs without a key store around them: logs in with a PIN that the test knows, and asks for no identity.

use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use model::key_store::ConnectionErrorCode;
use model::secret::Secret;
use protocol::{Class, Op, Reply};
use supervisor::{AdmissionError, AdmissionSession, WorkerAdmission};

struct KnownPin(Secret);

/// Lets in whoever takes this PIN.
pub(crate) fn known_pin(pin: &str) -> Arc<dyn WorkerAdmission> {
    Arc::new(KnownPin(Secret::new(pin.as_bytes().to_vec())))
}

impl WorkerAdmission for KnownPin {
    fn enter(&self, session: AdmissionSession) -> BoxFuture<'static, Result<(), AdmissionError>> {
        let pin = self.0.clone();
        async move {
            let _lock = session.lock(|| ()).await.unwrap();
            match session.call(Op::Login(pin)).await {
                Ok(Reply::LoggedIn(found)) => {
                    session.logged_in(*found);
                    Ok(())
                }
                Ok(Reply::Failed(fault)) if matches!(fault.class, Class::Login | Class::Locked) => {
                    let why = format!("the token refused kmsuser's PIN ({fault})");
                    Err(AdmissionError::permanent(ConnectionErrorCode::InvalidCredentials, why))
                }
                other => Err(AdmissionError::transient(ConnectionErrorCode::NetworkErrors, format!("{other:?}"))),
            }
        }
        .boxed()
    }
}
