//! ListTransactions: there are none, since this broker does not coordinate any yet.

use super::connection::Caller;
use super::{Effect, Shard};
use crate::protocol::list_transactions::*;
use crate::protocol::{DecodeError, Reader};

/// Those of Kafka that can be asked for; others are told back.
const STATES: [&str; 7] =
    ["Empty", "Ongoing", "PrepareCommit", "PrepareAbort", "CompleteCommit", "CompleteAbort", "PrepareEpochFence"];

impl Shard {
    pub(super) fn on_list_transactions(
        &mut self,
        caller: Caller,
        body: &[u8],
        effects: &mut Vec<Effect>,
    ) -> Result<(), DecodeError> {
        let request = ListTransactionsRequest::decode(&mut Reader::new(body), caller.api_version)?;
        let unknown = request.state_filters.iter().copied().filter(|state| !STATES.contains(state));
        let response = ListTransactionsResponse { unknown_state_filters: unknown.collect(), ..Default::default() };
        self.respond(caller, effects, |writer| response.encode(writer, caller.api_version));
        Ok(())
    }
}
