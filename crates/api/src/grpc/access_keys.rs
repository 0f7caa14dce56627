//! Access keys of principals: the part of `AccessService` that makes, shows and takes them away.

use tonic::{Request, Response, Status};

use super::entry::CallEntry;
use super::timestamp;
use model::operation::Operation;
use proto::v1;
use service::AccessKeyView;

pub(super) async fn create(
    entry: &CallEntry,
    request: &Request<v1::CreateAccessKeyRequest>,
) -> Result<Response<v1::CreateAccessKeyResponse>, Status> {
    let admitted = entry.admit(request, Operation::CreateAccessKey)?;
    let result = entry.service.create_access_key(&admitted.call, &request.get_ref().principal).await;
    admitted.answer(result.map(|mut made| v1::CreateAccessKeyResponse {
        access_key: Some(shown(made.key)),
        secret_access_key: std::mem::take(&mut *made.secret),
    }))
}

pub(super) async fn list(
    entry: &CallEntry,
    request: &Request<v1::ListAccessKeysRequest>,
) -> Result<Response<v1::ListAccessKeysResponse>, Status> {
    let admitted = entry.admit(request, Operation::ListAccessKeys)?;
    let v1::ListAccessKeysRequest { principal, limit, marker } = request.get_ref();
    let result = entry.service.list_access_keys(&admitted.call, principal, *limit, marker).await;
    admitted.answer(result.map(|page| v1::ListAccessKeysResponse {
        truncated: page.next_marker.is_some(),
        next_marker: page.next_marker.unwrap_or_default(),
        access_keys: page.items.into_iter().map(shown).collect(),
    }))
}

pub(super) async fn enable(
    entry: &CallEntry,
    request: &Request<v1::EnableAccessKeyRequest>,
) -> Result<Response<v1::EnableAccessKeyResponse>, Status> {
    let admitted = entry.admit(request, Operation::EnableAccessKey)?;
    let v1::EnableAccessKeyRequest { principal, access_key_id } = request.get_ref();
    let result = entry.service.enable_access_key(&admitted.call, principal, access_key_id).await;
    admitted.answer(result.map(|()| v1::EnableAccessKeyResponse {}))
}

pub(super) async fn disable(
    entry: &CallEntry,
    request: &Request<v1::DisableAccessKeyRequest>,
) -> Result<Response<v1::DisableAccessKeyResponse>, Status> {
    let admitted = entry.admit(request, Operation::DisableAccessKey)?;
    let v1::DisableAccessKeyRequest { principal, access_key_id } = request.get_ref();
    let result = entry.service.disable_access_key(&admitted.call, principal, access_key_id).await;
    admitted.answer(result.map(|()| v1::DisableAccessKeyResponse {}))
}

pub(super) async fn delete(
    entry: &CallEntry,
    request: &Request<v1::DeleteAccessKeyRequest>,
) -> Result<Response<v1::DeleteAccessKeyResponse>, Status> {
    let admitted = entry.admit(request, Operation::DeleteAccessKey)?;
    let v1::DeleteAccessKeyRequest { principal, access_key_id } = request.get_ref();
    let result = entry.service.delete_access_key(&admitted.call, principal, access_key_id).await;
    admitted.answer(result.map(|()| v1::DeleteAccessKeyResponse {}))
}

fn shown(key: AccessKeyView) -> v1::AccessKey {
    let AccessKeyView { id, principal, active, created_at, last_used } = key;
    let status = if active { v1::AccessKeyStatus::Active } else { v1::AccessKeyStatus::Inactive };
    v1::AccessKey {
        access_key_id: id.to_string(),
        principal,
        status: status.into(),
        creation_date: Some(timestamp(created_at)),
        last_used_date: last_used.as_ref().map(|last| timestamp(last.at)),
        last_used_service: last_used.map(|last| last.service).unwrap_or_default(),
    }
}
