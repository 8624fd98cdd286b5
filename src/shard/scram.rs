//! DescribeUserScramCredentials. No user has credentials, since no listener asks for any; that is answered as Kafka does, for
//! tools that show quotas and credentials of users together.

use super::connection::Caller;
use super::{Effect, Shard};
use crate::error_code::ErrorCode;
use crate::protocol::describe_user_scram_credentials::*;
use crate::protocol::{DecodeError, Reader};
use crate::types::Map;

impl Shard {
    pub(super) fn on_describe_user_scram_credentials(
        &mut self,
        caller: Caller,
        body: &[u8],
        effects: &mut Vec<Effect>,
    ) -> Result<(), DecodeError> {
        let request = DescribeUserScramCredentialsRequest::decode(&mut Reader::new(body), caller.api_version)?;
        let refused = refusals(request.users.iter().flatten().map(|user| user.name));
        let results = refused.iter().map(|(user, error_code, message)| DescribeUserScramCredentialsResult {
            user,
            error_code: error_code.code(),
            error_message: Some(message),
            credential_infos: Vec::new(),
        });
        let response = DescribeUserScramCredentialsResponse { results: results.collect(), ..Default::default() };
        self.respond(caller, effects, |writer| response.encode(writer, caller.api_version));
        Ok(())
    }
}

/// One row for each user that is asked for, in the order in which they are named first.
fn refusals<'a>(names: impl Iterator<Item = &'a str>) -> Vec<(&'a str, ErrorCode, String)> {
    let mut places: Map<&str, usize> = Map::default();
    let mut rows: Vec<(&str, ErrorCode, String)> = Vec::new();
    for name in names {
        if let Some(&place) = places.get(name) {
            let message =
                format!("Cannot describe SCRAM credentials for the same user twice in a single request: {name}");
            rows[place] = (name, ErrorCode::DuplicateResource, message);
            continue;
        }
        places.insert(name, rows.len());
        let message = format!("Attempt to describe a user credential that does not exist: {name}");
        rows.push((name, ErrorCode::ResourceNotFound, message));
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_has_credentials_and_nobody_is_told_twice() {
        let rows = refusals(["alice", "bob", "alice"].into_iter());
        let told: Vec<(&str, ErrorCode)> = rows.iter().map(|(name, error_code, _)| (*name, *error_code)).collect();
        assert_eq!(told, [("alice", ErrorCode::DuplicateResource), ("bob", ErrorCode::ResourceNotFound)]);
        assert_eq!(rows[1].2, "Attempt to describe a user credential that does not exist: bob");
        assert!(refusals([].into_iter()).is_empty());
    }
}
