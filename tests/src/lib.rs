//! The system from outside: nothing here links a service. The tests are in `tests/`; here is the
//! chaos test, which is a program too.

pub mod chaos;
