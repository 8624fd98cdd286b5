//! DescribeAcls, CreateAcls, DeleteAcls: there is no authorizer, which each of them is told in Kafka's words. MirrorMaker and
//! other tools ask for ACLs as a matter of course, and take this answer, but no unknown API, for a good one.

use super::connection::Caller;
use super::{Effect, Shard};
use crate::error_code::ErrorCode;
use crate::protocol::create_acls::*;
use crate::protocol::delete_acls::*;
use crate::protocol::describe_acls::*;
use crate::protocol::{DecodeError, Reader};

const MESSAGE: &str = "No Authorizer is configured.";

impl Shard {
    pub(super) fn on_describe_acls(
        &mut self,
        caller: Caller,
        body: &[u8],
        effects: &mut Vec<Effect>,
    ) -> Result<(), DecodeError> {
        DescribeAclsRequest::decode(&mut Reader::new(body), caller.api_version)?;
        let error_code = ErrorCode::SecurityDisabled.code();
        let response = DescribeAclsResponse { error_code, error_message: Some(MESSAGE), ..Default::default() };
        self.respond(caller, effects, |writer| response.encode(writer, caller.api_version));
        Ok(())
    }

    pub(super) fn on_create_acls(
        &mut self,
        caller: Caller,
        body: &[u8],
        effects: &mut Vec<Effect>,
    ) -> Result<(), DecodeError> {
        let request = CreateAclsRequest::decode(&mut Reader::new(body), caller.api_version)?;
        let error_code = ErrorCode::SecurityDisabled.code();
        let refused = |_: &AclCreation<'_>| AclCreationResult { error_code, error_message: Some(MESSAGE) };
        let results = request.creations.iter().map(refused).collect();
        let response = CreateAclsResponse { results, ..Default::default() };
        self.respond(caller, effects, |writer| response.encode(writer, caller.api_version));
        Ok(())
    }

    pub(super) fn on_delete_acls(
        &mut self,
        caller: Caller,
        body: &[u8],
        effects: &mut Vec<Effect>,
    ) -> Result<(), DecodeError> {
        let request = DeleteAclsRequest::decode(&mut Reader::new(body), caller.api_version)?;
        let error_code = ErrorCode::SecurityDisabled.code();
        let refused = |_: &DeleteAclsFilter<'_>| DeleteAclsFilterResult {
            error_code,
            error_message: Some(MESSAGE),
            ..Default::default()
        };
        let filter_results = request.filters.iter().map(refused).collect();
        let response = DeleteAclsResponse { filter_results, ..Default::default() };
        self.respond(caller, effects, |writer| response.encode(writer, caller.api_version));
        Ok(())
    }
}
