//! One connection as its client sees it: which versions both sides speak, and which response answers which request.
//! Owned by whoever owns the socket; never touches it.

use std::collections::VecDeque;
use std::fmt;

use bytes::Bytes;

use crate::error_code::ErrorCode;
use crate::protocol::{
    ApiKey, ApiVersionsRequest, ApiVersionsResponse, DecodeError, Message, decode_shared_response, encode_request,
};
use crate::types::Map;

/// What a connection has said so far. The first exchange is `hello`, which learns the broker's versions (KIP-35); every
/// later request goes out in the highest version that both sides know.
#[derive(Debug)]
pub struct Session {
    client_id: String,
    next_correlation_id: i32,
    /// By API key, both ends included; empty until the broker has answered `hello`.
    versions: Map<i16, (i16, i16)>,
    /// Requests without an answer yet. A broker answers in the order of the requests.
    in_flight: VecDeque<InFlight>,
}

#[derive(Clone, Copy, Debug)]
struct InFlight {
    correlation_id: i32,
    api_key: i16,
    api_version: i16,
}

/// A response matched to its request; it reads as whatever that request asks for.
#[derive(Clone, Debug)]
pub struct Response {
    pub api_key: i16,
    pub api_version: i16,
    frame: Bytes,
}

impl Response {
    /// The message, which borrows from this frame.
    pub fn decode<'a, M: Message<'a>>(&'a self) -> Result<M, SessionError> {
        assert!(M::KEY == self.api_key, "{} does not answer API {}", M::NAME, self.api_key);
        let decoded = decode_shared_response::<M>(&self.frame, self.api_version);
        decoded.map(|(_, message)| message).map_err(|reason| SessionError::Malformed { message: M::NAME, reason })
    }

    /// The frame itself, once nothing of the message is needed any more.
    pub fn into_frame(self) -> Bytes {
        self.frame
    }
}

/// Why a connection cannot go on, or a request cannot be asked on it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SessionError {
    /// The broker does not offer the API in any version known here.
    Unsupported { message: &'static str, offered: Option<(i16, i16)> },
    /// A response to nothing that was asked, or out of order.
    Unexpected { correlation_id: i32, expected: Option<i32> },
    /// The response does not read as the message it should be.
    Malformed { message: &'static str, reason: DecodeError },
    /// The broker refused to say its versions.
    Refused(ErrorCode),
}

impl fmt::Display for SessionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SessionError::Unsupported { message, offered: None } => write!(f, "it does not offer {message}"),
            SessionError::Unsupported { message, offered: Some((min, max)) } => {
                write!(f, "it offers {message} in versions {min} to {max} only, of which this program knows none")
            }
            SessionError::Unexpected { correlation_id, expected: Some(expected) } => {
                write!(f, "its answer carries correlation id {correlation_id} where {expected} is due")
            }
            SessionError::Unexpected { correlation_id, expected: None } => {
                write!(f, "it sent an answer (correlation id {correlation_id}) that nobody asked for")
            }
            SessionError::Malformed { message, reason } => write!(f, "its {message} does not read: {reason}"),
            SessionError::Refused(code) => write!(f, "it refused to say which versions it speaks: {code}"),
        }
    }
}

impl std::error::Error for SessionError {}

impl Session {
    pub fn new(client_id: &str) -> Session {
        let (versions, in_flight) = (Map::default(), VecDeque::new());
        Session { client_id: client_id.to_owned(), next_correlation_id: 0, versions, in_flight }
    }

    /// The first request of the connection, to be answered into `on_hello`.
    pub fn hello(&mut self) -> Vec<Bytes> {
        self.hello_in(*ApiVersionsRequest::VERSIONS.end())
    }

    fn hello_in(&mut self, api_version: i16) -> Vec<Bytes> {
        let client_software_version = env!("CARGO_PKG_VERSION");
        let request = ApiVersionsRequest { client_software_name: "gannet", client_software_version };
        self.encode(&request, api_version)
    }

    /// Takes the answer to `hello`. A broker older than the question answers in version 0 (KIP-511); then the bytes that come
    /// back ask again in a version it knows, once.
    pub fn on_hello(&mut self, frame: Bytes) -> Result<Option<Vec<Bytes>>, SessionError> {
        let mut response = self.on_response(frame)?;
        let newest = *ApiVersionsRequest::VERSIONS.end();
        // Every version begins with correlation id and error code.
        let is_refused = response.frame.get(4..6) == Some(&ErrorCode::UnsupportedVersion.code().to_be_bytes()[..]);
        if is_refused && response.api_version == newest {
            response.api_version = 0;
            let answer: ApiVersionsResponse = response.decode()?;
            let offer = answer.api_keys.iter().find(|api| api.api_key == ApiKey::ApiVersions.code());
            let version = offer.map_or(0, |offer| offer.max_version.clamp(0, newest - 1));
            return Ok(Some(self.hello_in(version)));
        }
        if is_refused {
            return Err(SessionError::Refused(ErrorCode::UnsupportedVersion));
        }
        let answer: ApiVersionsResponse = response.decode()?;
        match ErrorCode::from_code(answer.error_code) {
            Some(ErrorCode::None) => {}
            other => return Err(SessionError::Refused(other.unwrap_or(ErrorCode::UnknownServerError))),
        }
        let offers = answer.api_keys.iter().map(|api| (api.api_key, (api.min_version, api.max_version)));
        self.versions = offers.collect();
        Ok(None)
    }

    /// The version in which this message would go out.
    pub fn version_of<'a, M: Message<'a>>(&self) -> Result<i16, SessionError> {
        let offered = self.versions.get(&M::KEY).copied();
        let unsupported = SessionError::Unsupported { message: M::NAME, offered };
        let Some((min, max)) = offered else { return Err(unsupported) };
        let version = max.min(*M::VERSIONS.end());
        if version >= min.max(*M::VERSIONS.start()) { Ok(version) } else { Err(unsupported) }
    }

    /// A request to be sent now; its response is due after those of all requests before it.
    pub fn request<'a, M: Message<'a>>(&mut self, request: &M) -> Result<Vec<Bytes>, SessionError> {
        let api_version = self.version_of::<M>()?;
        Ok(self.encode(request, api_version))
    }

    /// A request that is never answered: produce with acks=0.
    pub fn request_unanswered<'a, M: Message<'a>>(&mut self, request: &M) -> Result<Vec<Bytes>, SessionError> {
        let pieces = self.request(request)?;
        self.in_flight.pop_back();
        Ok(pieces)
    }

    fn encode<'a, M: Message<'a>>(&mut self, request: &M, api_version: i16) -> Vec<Bytes> {
        let correlation_id = self.next_correlation_id;
        self.next_correlation_id = correlation_id.checked_add(1).unwrap_or(0);
        self.in_flight.push_back(InFlight { correlation_id, api_key: M::KEY, api_version });
        encode_request(request, api_version, correlation_id, Some(&self.client_id))
    }

    /// Matches one frame, without its length prefix, to the oldest request in flight.
    pub fn on_response(&mut self, frame: Bytes) -> Result<Response, SessionError> {
        let malformed = |remaining| SessionError::Malformed {
            message: "response header",
            reason: DecodeError::Truncated { needed: 4, remaining },
        };
        let id = frame.first_chunk().ok_or(malformed(frame.len()))?;
        let correlation_id = i32::from_be_bytes(*id);
        match self.in_flight.pop_front() {
            Some(InFlight { correlation_id: expected, api_key, api_version }) if expected == correlation_id => {
                Ok(Response { api_key, api_version, frame })
            }
            other => {
                let expected = other.map(|request| request.correlation_id);
                Err(SessionError::Unexpected { correlation_id, expected })
            }
        }
    }

    /// How many requests wait for their answer.
    pub fn in_flight(&self) -> usize {
        self.in_flight.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::api_versions::ApiVersion;
    use crate::protocol::{MetadataRequest, MetadataResponse, ProduceRequest, decode_header, response_writer};

    /// The frame, without its length prefix, that a broker would send.
    fn answer<'a, M: Message<'a>>(response: &M, version: i16, correlation_id: i32) -> Bytes {
        let mut writer = response_writer(M::KEY, version, correlation_id);
        response.encode_message(&mut writer, version);
        writer.into_bytes().slice(4..)
    }

    fn offer(error_code: ErrorCode, apis: &[(ApiKey, i16, i16)]) -> ApiVersionsResponse<'static> {
        let api_keys = apis.iter().map(|&(key, min_version, max_version)| ApiVersion {
            api_key: key.code(),
            min_version,
            max_version,
        });
        ApiVersionsResponse { error_code: error_code.code(), api_keys: api_keys.collect(), ..Default::default() }
    }

    fn session(apis: &[(ApiKey, i16, i16)]) -> Session {
        let mut session = Session::new("test");
        session.hello();
        assert_eq!(session.on_hello(answer(&offer(ErrorCode::None, apis), 4, 0)), Ok(None));
        session
    }

    #[test]
    fn requests_go_out_in_the_highest_version_that_both_sides_know() {
        let mut session = session(&[(ApiKey::Metadata, 5, 12), (ApiKey::Produce, 0, 99)]);
        assert_eq!(session.version_of::<MetadataRequest>(), Ok(12));
        assert_eq!(session.version_of::<ProduceRequest>(), Ok(13));
        let frame = session.request(&MetadataRequest::default()).unwrap().concat();
        let (header, _) = decode_header(&frame[4..]).unwrap();
        assert_eq!((header.api_key, header.api_version, header.correlation_id), (3, 12, 1));
    }

    #[test]
    fn an_api_without_a_common_version_is_an_error_and_no_request() {
        let mut session = session(&[(ApiKey::Produce, 0, 2)]);
        let no_version = SessionError::Unsupported { message: "ProduceRequest", offered: Some((0, 2)) };
        assert_eq!(session.request(&ProduceRequest::default()), Err(no_version));
        let no_api = SessionError::Unsupported { message: "MetadataRequest", offered: None };
        assert_eq!(session.request(&MetadataRequest::default()), Err(no_api));
        assert_eq!(session.in_flight(), 0);
    }

    #[test]
    fn responses_are_matched_in_the_order_of_their_requests() {
        let mut session = session(&[(ApiKey::Metadata, 0, 9)]);
        session.request(&MetadataRequest::default()).unwrap();
        session.request(&MetadataRequest::default()).unwrap();
        let metadata = MetadataResponse { cluster_id: Some("c"), ..Default::default() };
        let response = session.on_response(answer(&metadata, 9, 1)).unwrap();
        assert_eq!(response.decode(), Ok(metadata.clone()));
        let wrong = session.on_response(answer(&metadata, 9, 1));
        assert_eq!(wrong.unwrap_err(), SessionError::Unexpected { correlation_id: 1, expected: Some(2) });
        let unasked = session.on_response(answer(&metadata, 9, 3));
        assert_eq!(unasked.unwrap_err(), SessionError::Unexpected { correlation_id: 3, expected: None });
    }

    #[test]
    fn a_request_without_answer_leaves_no_trace_in_the_order() {
        let mut session = session(&[(ApiKey::Metadata, 0, 9), (ApiKey::Produce, 3, 9)]);
        session.request_unanswered(&ProduceRequest::default()).unwrap();
        session.request(&MetadataRequest::default()).unwrap();
        assert!(session.on_response(answer(&MetadataResponse::default(), 9, 2)).is_ok());
    }

    #[test]
    fn a_broker_older_than_the_question_is_asked_again_in_its_own_version() {
        let mut session = Session::new("test");
        session.hello();
        let refusal = offer(ErrorCode::UnsupportedVersion, &[(ApiKey::ApiVersions, 0, 2)]);
        let again = session.on_hello(answer(&refusal, 0, 0)).unwrap().expect("it asks again").concat();
        assert_eq!(decode_header(&again[4..]).unwrap().0.api_version, 2);
        let offered = offer(ErrorCode::None, &[(ApiKey::Metadata, 0, 9)]);
        assert_eq!(session.on_hello(answer(&offered, 2, 1)), Ok(None));
        assert_eq!(session.version_of::<MetadataRequest>(), Ok(9));
    }

    #[test]
    fn a_broker_that_keeps_refusing_is_not_asked_for_ever() {
        let mut session = Session::new("test");
        session.hello();
        let refusal = offer(ErrorCode::UnsupportedVersion, &[(ApiKey::ApiVersions, 4, 4)]);
        assert!(session.on_hello(answer(&refusal, 0, 0)).unwrap().is_some());
        let refused = SessionError::Refused(ErrorCode::UnsupportedVersion);
        assert_eq!(session.on_hello(answer(&refusal, 0, 1)), Err(refused));
    }

    #[test]
    fn bytes_that_are_no_response_are_an_error() {
        let mut session = session(&[(ApiKey::Metadata, 0, 9)]);
        assert!(session.on_response(Bytes::from_static(&[0, 0])).is_err());
        session.request(&MetadataRequest::default()).unwrap();
        let response = session.on_response(Bytes::from_static(&[0, 0, 0, 1, 9])).unwrap();
        assert!(matches!(response.decode::<MetadataResponse>(), Err(SessionError::Malformed { .. })));
    }
}
