#pragma once

#include <cstddef>
#include <cstdint>
#include <expected>
#include <memory>
#include <span>
#include <string>

struct bpf_program;

namespace sallyport::drivers {

/// Which frames a capture takes: an expression of libpcap's filter language (pcap-filter(7)) as a program of classic BPF. Such a program
/// only jumps forward and has every load checked, so it ends after as many steps as it has instructions, whatever it was made from.
/// Immutable: any thread may run it.
class CaptureFilter {
 public:
    static constexpr std::size_t kMaxText = 1024;           ///< octets; bounds libpcap's time and the program's length
    static constexpr std::size_t kMaxInstructions = 4096;   ///< the kernel's BPF_MAXINSNS

    /// Takes every frame.
    CaptureFilter();
    /// `text` is written for untagged frames; where `vlan` is not 0, frames carry that 802.1Q tag and the filter looks behind it. Empty: every
    /// frame. Names of hosts, networks and services are refused: looking them up would wait for others. The error is libpcap's, or says
    /// what is not allowed here. Any thread; never waits.
    [[nodiscard]] static std::expected<CaptureFilter, std::string> compile(const std::string& text, std::uint16_t vlan);

    /// `head` is the beginning of a frame of `length` octets; loads beyond it make the frame not match.
    [[nodiscard]] bool matches(std::span<const std::byte> head, std::uint32_t length) const noexcept;
    [[nodiscard]] std::size_t instructions() const noexcept;

 private:
    std::shared_ptr<const bpf_program> program_;   ///< nullptr: every frame
};

}  // namespace sallyport::drivers
