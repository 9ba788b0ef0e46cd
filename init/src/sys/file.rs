//! Files: bounded reads, durable writes.
