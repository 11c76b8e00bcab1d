#pragma once

#include <array>
#include <cstdint>
#include <cstdio>
#include <span>
#include <string>

#include "dataplane/time.h"

namespace sallyport::simulation {

/// A trace of a run in virtual time (draft-ietf-opsawg-pcapng): an interface for each host, each frame when it leaves and when it arrives,
/// with what became of it as its comment. Every packet is in the file when write() returns, so that a crash leaves what led to it.
/// drivers/pcapng.h cannot be used: its times are those of the TSC.
class Trace {
 public:
    enum class Direction : std::uint32_t { in = 1, out = 2 };

    explicit Trace(const std::string& path) : file_(std::fopen(path.c_str(), "wb")) {
        if (file_ == nullptr) return;
        block(0x0a0d0d0a, [&] {
            put32(0x1a2b3c4d);
            put32(1);            // version 1.0
            put32(0xffffffff);   // length of the section: unknown
            put32(0xffffffff);
        });
        for (const char* host : {"client", "server"})
            block(1, [&] {
                put32(1);       // LINKTYPE_ETHERNET
                put32(0);       // no limit
                option(2, host);
                option(9, std::string_view("\x09", 1));   // times in nanoseconds
                put32(0);
            });
    }
    ~Trace() {
        if (file_ != nullptr) std::fclose(file_);
    }
    Trace(const Trace&) = delete;
    Trace& operator=(const Trace&) = delete;

    void write(int host, Direction direction, Time at, std::span<const std::byte> frame, const char* comment) {
        if (file_ == nullptr) return;
        block(6, [&] {
            const auto time = static_cast<std::uint64_t>(at.time_since_epoch().count());
            put32(static_cast<std::uint32_t>(host));
            put32(static_cast<std::uint32_t>(time >> 32));
            put32(static_cast<std::uint32_t>(time));
            put32(static_cast<std::uint32_t>(frame.size()));
            put32(static_cast<std::uint32_t>(frame.size()));
            put({reinterpret_cast<const char*>(frame.data()), frame.size()});
            const auto flags = static_cast<std::uint32_t>(direction);
            option(2, {reinterpret_cast<const char*>(&flags), sizeof flags});
            if (comment != nullptr) option(1, comment);
            put32(0);
        });
        std::fflush(file_);
    }

 private:
    template <typename Body>
    void block(std::uint32_t type, Body&& body) {
        body_.clear();
        body();
        const auto length = static_cast<std::uint32_t>(body_.size() + 12);
        for (const std::uint32_t word : {type, length}) std::fwrite(&word, sizeof word, 1, file_);
        std::fwrite(body_.data(), body_.size(), 1, file_);
        std::fwrite(&length, sizeof length, 1, file_);
    }
    void put32(std::uint32_t value) { body_.append(reinterpret_cast<const char*>(&value), sizeof value); }
    void put(std::string_view octets) {
        body_.append(octets);
        body_.append((4 - octets.size() % 4) % 4, '\0');
    }
    void option(std::uint16_t code, std::string_view value) {
        put32(code | static_cast<std::uint32_t>(value.size()) << 16);
        put(value);
    }

    std::FILE* file_;
    std::string body_;
};

}  // namespace sallyport::simulation
