//! The system from outside: nothing here links a service. The tests are in `tests/`.
