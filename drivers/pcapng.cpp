#include "drivers/pcapng.h"

#include <fcntl.h>
#include <rte_errno.h>
#include <rte_ether.h>
#include <rte_mbuf.h>
#include <rte_pcapng.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <utility>
#include <vector>

#include "crypto/format.h"

namespace sallyport::drivers {
namespace {

using Error = std::unexpected<std::string>;

// draft-ietf-opsawg-pcapng 4.7: block type, length, type of secrets, their length, the secrets, length.
constexpr std::uint32_t kDecryptionSecretsBlock = 0x0000000a, kTlsKeyLog = 0x544c534b;
constexpr std::uint32_t kDecryptionSecretsOverhead = 5 * sizeof(std::uint32_t);
// 4.3: block type, length, interface, then the time, upper half first.
constexpr std::uint32_t kTimeOffset = 3 * sizeof(std::uint32_t);

std::expected<void, std::string> write_all(int file, std::span<const char> octets) {
    while (!octets.empty()) {
        const ssize_t written = ::write(file, octets.data(), octets.size());
        if (written < 0 && errno == EINTR) continue;
        if (written <= 0) return Error(std::string("cannot write the capture: ") + std::strerror(errno));
        octets = octets.subspan(static_cast<std::size_t>(written));
    }
    return {};
}

}  // namespace

std::expected<PcapngFile, std::string> PcapngFile::open(const channel::Descriptor& file, const std::string& comment) {
    utsname system{};
    static_cast<void>(uname(&system));
    const int descriptor = fcntl(file.get(), F_DUPFD_CLOEXEC, 0);   // the library closes it
    if (descriptor < 0) return Error(std::string("no descriptor is left for the capture's file: ") + std::strerror(errno));
    rte_pcapng* const opened = rte_pcapng_fdopen(descriptor, sallyport::format("{} {}", system.sysname, system.release).c_str(), nullptr,
                                                 "sallyport-dataplane " SALLYPORT_VERSION, comment.empty() ? nullptr : comment.c_str());
    if (opened == nullptr) {
        const int why = rte_errno;
        ::close(descriptor);
        return Error(std::string("the capture's file does not take its header: ") + rte_strerror(why));
    }
    PcapngFile result(opened, descriptor);
    const off_t at = lseek(descriptor, 0, SEEK_CUR);
    result.octets_ = at > 0 ? static_cast<std::uint64_t>(at) : 0;
    return result;
}

PcapngFile::PcapngFile(PcapngFile&& other) noexcept
    : file_(std::exchange(other.file_, nullptr)), descriptor_(std::exchange(other.descriptor_, -1)), octets_(other.octets_) {}

PcapngFile::~PcapngFile() {
    if (file_ != nullptr) rte_pcapng_close(file_);
}

std::expected<void, std::string> PcapngFile::add_interface(std::uint16_t port, const std::string& name, const std::string& filter) {
    const int written = rte_pcapng_add_interface(file_, port, name.c_str(), nullptr, filter.empty() ? nullptr : filter.c_str());
    if (written < 0) return Error(sallyport::format("the capture's file does not take the interface {}", name));
    octets_ += static_cast<std::uint64_t>(written);
    return {};
}

std::expected<PcapngFile::Room, std::string> PcapngFile::reserve_secrets(std::uint32_t octets) {
    octets = octets / 4 * 4;
    const std::uint32_t length = octets + kDecryptionSecretsOverhead;
    // Lines of comment: what has not been written over is a key log that says nothing (NSS key log format).
    std::vector<char> block(length, ' ');
    const std::array<std::uint32_t, 4> header{kDecryptionSecretsBlock, length, kTlsKeyLog, octets};
    std::memcpy(block.data(), header.data(), sizeof header);
    std::memcpy(block.data() + length - sizeof length, &length, sizeof length);
    const std::span<char> room(block.data() + sizeof header, octets);
    constexpr std::size_t kLine = 128;
    for (std::size_t i = 0; i < room.size(); i += kLine) {
        room[i] = '#';
        room[std::min(i + kLine, room.size()) - 1] = '\n';
    }
    const Room result{octets_ + sizeof header, octets};
    if (auto written = write_all(descriptor_, block); !written) return Error(written.error());
    octets_ += length;
    return result;
}

rte_mbuf* PcapngFile::copy(const rte_mbuf* frame, std::uint16_t port, std::uint16_t queue, Direction direction, std::uint32_t snap,
                           rte_mempool* pool) noexcept {
    return rte_pcapng_copy(port, queue, frame, pool, snap, direction == Direction::in ? RTE_PCAPNG_DIRECTION_IN : RTE_PCAPNG_DIRECTION_OUT,
                           nullptr);
}

std::uint64_t PcapngFile::time_of(const rte_mbuf* copied) noexcept {
    std::array<std::uint32_t, 2> halves{};
    std::memcpy(halves.data(), rte_pktmbuf_mtod_offset(copied, const char*, kTimeOffset), sizeof halves);
    return std::uint64_t{halves[0]} << 32 | halves[1];
}

std::uint32_t PcapngFile::octets_of(const rte_mbuf* copied) noexcept { return copied->pkt_len; }

std::expected<void, std::string> PcapngFile::write(std::span<rte_mbuf*> copied) {
    constexpr std::size_t kAtOnce = 256;
    std::expected<void, std::string> result;
    // The library frees nothing, whatever its header says, and reports a write that was cut short by its length alone.
    while (result && !copied.empty()) {
        const auto part = copied.first(std::min(copied.size(), kAtOnce));
        copied = copied.subspan(part.size());
        std::uint64_t octets = 0;
        for (const rte_mbuf* const each : part) octets += octets_of(each);
        const ssize_t written = rte_pcapng_write_packets(file_, part.data(), static_cast<std::uint16_t>(part.size()));
        const int why = rte_errno;
        rte_pktmbuf_free_bulk(part.data(), static_cast<unsigned>(part.size()));
        if (written >= 0 && static_cast<std::uint64_t>(written) == octets) {
            octets_ += octets;
            continue;
        }
        result = Error(std::string("cannot write the capture: ") + (written < 0 ? rte_strerror(why) : "no room is left in its file system"));
        // A block that is not whole would make the file unreadable from there on.
        if (ftruncate(descriptor_, static_cast<off_t>(octets_)) == 0) static_cast<void>(lseek(descriptor_, static_cast<off_t>(octets_), SEEK_SET));
    }
    rte_pktmbuf_free_bulk(copied.data(), static_cast<unsigned>(copied.size()));
    return result;
}

std::expected<void, std::string> PcapngFile::write_statistics(std::uint16_t port, std::uint64_t seen, std::uint64_t dropped) {
    const ssize_t written = rte_pcapng_write_stats(file_, port, seen, dropped, nullptr);
    if (written < 0) return Error(std::string("cannot write the capture's statistics"));
    octets_ += static_cast<std::uint64_t>(written);
    return {};
}

std::uint16_t pcapng_data_room(std::uint16_t mtu) {
    constexpr std::uint32_t kLinkLayer = RTE_ETHER_HDR_LEN + 2 * RTE_VLAN_HLEN + RTE_ETHER_CRC_LEN;
    return static_cast<std::uint16_t>(std::min<std::uint32_t>(rte_pcapng_mbuf_size(mtu + kLinkLayer), UINT16_MAX - RTE_PKTMBUF_HEADROOM));
}

}  // namespace sallyport::drivers
