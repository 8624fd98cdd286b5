//! The real process, driven by librdkafka and by bare sockets: kill -9 under load, groups, a full disk, a failing device,
//! hostile and silent clients. Servers listen on loopback, every test ends the ones it started.

mod admin;
mod crash;
mod device;
mod directories;
mod fixture;
mod groups;
mod hostile;
mod per_core;
mod quotas;
mod start;
