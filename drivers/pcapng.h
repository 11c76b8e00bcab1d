#pragma once

#include <cstdint>
#include <expected>
#include <span>
#include <string>

#include "control/channel/shared_memory.h"

struct rte_mbuf;
struct rte_mempool;
struct rte_pcapng;

namespace sallyport::drivers {

/// A capture file in the pcapng format (draft-ietf-opsawg-pcapng), one section. The blocks of packets, interfaces and statistics are
/// librte_pcapng's; that of decryption secrets, which it does not know, is ours. Main thread; writes block as the file does.
class PcapngFile {
 public:
    enum class Direction : std::uint8_t { in = 1,
                                          out = 2 };   ///< as the flags of an Enhanced Packet Block have them

    /// Writes the section's header into an empty file.
    [[nodiscard]] static std::expected<PcapngFile, std::string> open(const channel::Descriptor& file, const std::string& comment);
    PcapngFile(PcapngFile&& other) noexcept;
    PcapngFile& operator=(PcapngFile&&) = delete;
    ~PcapngFile();   ///< closes the file

    /// Every port before its first packet. `port` is ethdev's number, `filter` what was asked for.
    [[nodiscard]] std::expected<void, std::string> add_interface(std::uint16_t port, const std::string& name, const std::string& filter);

    /// Where secrets can be written while the capture runs: see reserve_secrets().
    struct Room {
        std::uint64_t offset = 0;   ///< in the file
        std::uint32_t octets = 0;
    };
    /// A Decryption Secrets Block with `octets` octets of key log that says nothing yet. Whoever has the keys writes lines over it in place: they
    /// stand before every packet then, where a reader that goes through the file once must meet them. Before the first packet.
    [[nodiscard]] std::expected<Room, std::string> reserve_secrets(std::uint32_t octets);

    /// A frame as it will stand in the file, taken out of `pool`: at most `snap` octets, with the time of now. Null when the pool is empty. Any
    /// thread; reads the clock.
    [[nodiscard]] static rte_mbuf* copy(const rte_mbuf* frame, std::uint16_t port, std::uint16_t queue, Direction direction, std::uint32_t snap,
                                        rte_mempool* pool) noexcept;
    /// TSC at which copy() was called.
    [[nodiscard]] static std::uint64_t time_of(const rte_mbuf* copied) noexcept;
    /// Octets that it takes in the file.
    [[nodiscard]] static std::uint32_t octets_of(const rte_mbuf* copied) noexcept;
    /// Writes what copy() made, and frees it, always.
    [[nodiscard]] std::expected<void, std::string> write(std::span<rte_mbuf*> copied);

    /// Packets that were seen and dropped, at the end.
    [[nodiscard]] std::expected<void, std::string> write_statistics(std::uint16_t port, std::uint64_t seen, std::uint64_t dropped);

    [[nodiscard]] std::uint64_t octets() const noexcept { return octets_; }   ///< written

 private:
    PcapngFile(rte_pcapng* file, int descriptor) : file_(file), descriptor_(descriptor) {}
    rte_pcapng* file_;
    int descriptor_;   ///< file_'s
    std::uint64_t octets_ = 0;
};

/// Data room of a buffer that holds a whole frame, of a packet of `mtu` octets, with the block around it.
[[nodiscard]] std::uint16_t pcapng_data_room(std::uint16_t mtu);

}  // namespace sallyport::drivers
