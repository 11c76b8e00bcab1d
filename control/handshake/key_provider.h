#pragma once

/// What OpenSSL has done by others: a provider (provider(7)) whose X25519 is lib25519's. OpenSSL 4 makes a key in 34 us and agrees on a secret in 30; this one in 8 and 27, and
/// in 13 where several handshakes have theirs done together (OperationBatch).
namespace sallyport::handshake {

/// Loads it for the whole process, and has OpenSSL take it for X25519, inside X25519MLKEM768 too, TLS13-KDF, TLS1-PRF and random octets (random_source.h) from now on; everything else stays with OpenSSL's own, but for keys that
/// signing_key() makes. Without it servers give no tickets of TLS 1.3 (session_tickets.h). Once, before any other thread, any context (SSL_CTX) and the sandbox. Throws std::runtime_error saying what OpenSSL refused.
void load_key_provider();

}  // namespace sallyport::handshake
