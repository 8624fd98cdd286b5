//! DescribeUserScramCredentials (key 50): with which mechanisms users may say who they are (KIP-554). Passwords are not told.

use super::message::message;

message! {
    DescribeUserScramCredentialsRequest<'a>, key 50, versions 0, flexible 0+ {
        /// Null or empty asks for all.
        users: Option<Vec<UserName<'a>>> = 0+,
    }
    UserName<'a> {
        name: &'a str = 0+,
    }
}

message! {
    DescribeUserScramCredentialsResponse<'a>, key 50, versions 0, flexible 0+ {
        throttle_time_ms: i32 = 0+,
        error_code: i16 = 0+,
        error_message: Option<&'a str> = 0+,
        results: Vec<DescribeUserScramCredentialsResult<'a>> = 0+,
    }
    DescribeUserScramCredentialsResult<'a> {
        user: &'a str = 0+,
        error_code: i16 = 0+,
        error_message: Option<&'a str> = 0+,
        credential_infos: Vec<CredentialInfo> = 0+,
    }
    CredentialInfo {
        /// 1 SCRAM-SHA-256, 2 SCRAM-SHA-512.
        mechanism: i8 = 0+,
        iterations: i32 = 0+,
    }
}
