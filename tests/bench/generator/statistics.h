#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "tests/bench/generator/failure.h"
#include "tests/bench/generator/tls_handshake.h"

namespace sallyport::generator {

/// What one side has done since the beginning. Differences of two copies are what a window held.
struct Counters {
    std::uint64_t opened = 0;              ///< connections that are ready for messages, after the handshake
    std::uint64_t closed = 0;              ///< in order, by either side
    std::uint64_t closed_by_peer = 0;      ///< of them, those that the peer closed first
    std::uint64_t handshakes = 0, resumed = 0, tickets = 0;
    std::uint64_t messages_out = 0, messages_in = 0;          ///< whole requests and answers
    std::uint64_t octets_out = 0, octets_in = 0;              ///< of messages, heads included
    std::uint64_t records_out = 0, records_in = 0;
    std::uint64_t key_updates_out = 0, key_updates_in = 0;
    std::uint64_t mismatched_octets = 0;
    std::uint64_t bad_status = 0;                             ///< answers other than 2xx
    std::uint64_t handshake_cycles = 0;                       ///< TSC, in libssl and around it
};

/// What a side keeps beside its counters.
struct Statistics {
    Counters counters;
    FailureCounts failures;
    std::map<Negotiated, std::uint64_t> negotiated;           ///< handshakes by what they agreed on
    std::vector<std::string> first_failures;                  ///< in words, of the first few

    void fail(Failure failure, const std::string& text) {
        failures.count(failure);
        constexpr std::size_t kMost = 8;
        if (first_failures.size() >= kMost) return;
        std::string line = name(failure);
        if (!text.empty()) line += ": " + text;
        for (const std::string& known : first_failures)
            if (known == line) return;
        first_failures.push_back(std::move(line));
    }
};

}  // namespace sallyport::generator
