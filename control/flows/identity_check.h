#pragma once

#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "control/handshake/handshake.h"

/// Whether an identity that was verified when its flow began would still be let in: what revocation lists and trust anchors have become since.
/// Pure functions but for the clock that a verification reads: any thread.
namespace sallyport::flows {

/// Why one of the certificates of its chain, but for the anchor, is revoked; nullopt: none is. Of a pinned certificate nobody but the pin speaks.
[[nodiscard]] std::optional<std::string> revoked(const handshake::Identity& identity, const revocation::CrlSet* crls, revocation::Clock::time_point now);

/// Why its chain leads to none of these anchors; nullopt: it does. `purpose`: X509_PURPOSE_SSL_CLIENT or X509_PURPOSE_SSL_SERVER.
[[nodiscard]] std::optional<std::string> untrusted(const handshake::Identity& identity, const std::vector<std::shared_ptr<X509>>& anchors, int purpose);

/// Whether two lists of anchors are of the same certificates, in the same order.
[[nodiscard]] bool same_anchors(const std::vector<std::shared_ptr<X509>>& one, const std::vector<std::shared_ptr<X509>>& other);

/// Why its certificate has none of these names, where they are not those that it was let in by; nullopt: it has, or the list is the same.
[[nodiscard]] std::optional<std::string> not_named(const handshake::Identity& identity, const std::vector<std::string>& before, const std::vector<std::string>& now);

}  // namespace sallyport::flows
