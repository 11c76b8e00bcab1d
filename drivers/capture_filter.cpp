#include "drivers/capture_filter.h"

#include <arpa/inet.h>
#include <pcap/pcap.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <string>
#include <string_view>

#include "crypto/format.h"

namespace sallyport::drivers {
namespace {

using Error = std::unexpected<std::string>;

/// The words of libpcap's language that make sense on Ethernet. Every other word would be a name, which libpcap asks the resolver for.
constexpr auto kWords = std::to_array<std::string_view>({
    "ah",
    "and",
    "arp",
    "atalk",
    "broadcast",
    "byte",
    "decnet",
    "dst",
    "esp",
    "ether",
    "gateway",
    "greater",
    "host",
    "icmp",
    "icmp6",
    "icmp6-destinationunreach",
    "icmp6-echo",
    "icmp6-echoreply",
    "icmp6-neighboradvert",
    "icmp6-neighborsolicit",
    "icmp6-packettoobig",
    "icmp6-parameterproblem",
    "icmp6-routeradvert",
    "icmp6-routersolicit",
    "icmp6-timeexceeded",
    "icmp6code",
    "icmp6type",
    "icmp-echo",
    "icmp-echoreply",
    "icmp-paramprob",
    "icmp-redirect",
    "icmp-sourcequench",
    "icmp-timxceed",
    "icmp-unreach",
    "icmpcode",
    "icmptype",
    "ip",
    "ip6",
    "lat",
    "len",
    "length",
    "less",
    "link",
    "llc",
    "mask",
    "moprc",
    "mopdl",
    "mpls",
    "multicast",
    "net",
    "not",
    "or",
    "pppoed",
    "pppoes",
    "port",
    "portrange",
    "proto",
    "rarp",
    "sctp",
    "src",
    "stp",
    "tcp",
    "tcp-ack",
    "tcp-cwr",
    "tcp-ece",
    "tcp-fin",
    "tcp-push",
    "tcp-rst",
    "tcp-syn",
    "tcp-urg",
    "tcpflags",
    "udp",
    "vlan",
});

bool in_word(char c) { return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_' || c == '.' || c == ':' || c == '-'; }
bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_hex(char c) { return std::isxdigit(static_cast<unsigned char>(c)) != 0; }

/// Six groups of one or two hexadecimal digits.
bool is_mac(std::string_view word) {
    std::size_t groups = 0, digits = 0;
    for (const char c : word) {
        if (is_hex(c)) {
            if (++digits > 2) return false;
        } else {
            if (c != ':' || digits == 0) return false;
            ++groups;
            digits = 0;
        }
    }
    return groups == 5 && digits > 0;
}

/// An IPv4 address, the beginning of one, or a number: one to four groups of digits.
bool is_dotted(std::string_view word) {
    std::size_t groups = 1, digits = 0;
    for (const char c : word) {
        if (is_digit(c)) {
            ++digits;
        } else {
            if (c != '.' || digits == 0 || ++groups > 4) return false;
            digits = 0;
        }
    }
    return digits > 0;
}

/// A number, an IPv4 address (part), an IPv6 or MAC address, or the range of `portrange`: what libpcap reads without a resolver. What only looks
/// like one (1.2.3.4.5, be.ef:1) is a name to it.
bool is_number(std::string_view word, std::string_view before) {
    if (std::ranges::contains(word, ':')) {
        // "tcp[12:2]", "ip[ip[0]:2]"
        const std::size_t colon = word.find(':');
        if (colon + 1 < word.size() && std::ranges::all_of(word.substr(0, colon), is_digit) && std::ranges::all_of(word.substr(colon + 1), is_digit)) return true;
        in6_addr ignored{};
        return is_mac(word) || inet_pton(AF_INET6, std::string(word).c_str(), &ignored) == 1;
    }
    if (word.starts_with("0x") || word.starts_with("0X")) return word.size() > 2 && std::ranges::all_of(word.substr(2), is_hex);
    if (before == "portrange") return std::ranges::all_of(word, [](char c) { return is_digit(c) || c == '-'; });
    return is_dotted(word);
}

std::expected<void, std::string> check_words(std::string_view text) {
    std::string_view before;
    for (std::size_t i = 0; i < text.size();) {
        const char c = text[i];
        if (!in_word(c)) {
            constexpr std::string_view kSigns = " \t()[]!&|<>=+*/%^~,";
            if (!std::ranges::contains(kSigns, c)) return Error(sallyport::format("the character '{}' has no place in a filter", std::isprint(static_cast<unsigned char>(c)) != 0 ? std::string(1, c) : sallyport::format("\\x{:02x}", static_cast<unsigned char>(c))));
            ++i;
            continue;
        }
        // A sign of subtraction stands by itself: libpcap too reads "len-20" as a name.
        std::size_t end = i;
        while (end < text.size() && in_word(text[end])) ++end;
        const std::string_view word = text.substr(i, end - i);
        i = end;
        if (word != "-" && !std::ranges::contains(kWords, word) && !is_number(word, before))
            return Error(sallyport::format("'{}' is a name, or no word of the language: names are not looked up; write addresses and port numbers", word));
        before = word;
    }
    return {};
}

struct Handle {
    pcap_t* pcap = pcap_open_dead(DLT_EN10MB, 65535);
    Handle() = default;
    ~Handle() {
        if (pcap != nullptr) pcap_close(pcap);
    }
    Handle(const Handle&) = delete;
    Handle& operator=(const Handle&) = delete;
};

}  // namespace

CaptureFilter::CaptureFilter() = default;

std::expected<CaptureFilter, std::string> CaptureFilter::compile(const std::string& text, std::uint16_t vlan) {
    if (text.size() > kMaxText) return Error(sallyport::format("it has {} octets; {} are possible", text.size(), kMaxText));
    if (auto checked = check_words(text); !checked) return Error(checked.error());
    CaptureFilter filter;
    const bool all = std::ranges::all_of(text, [](char c) { return c == ' ' || c == '\t'; });
    if (all && vlan == 0) return filter;
    const Handle handle;
    if (handle.pcap == nullptr) return Error(std::string("libpcap does not start"));
    const auto compiled = [&](const std::string& source, bpf_program& program) {
        return pcap_compile(handle.pcap, &program, source.c_str(), 1, PCAP_NETMASK_UNKNOWN) == 0;
    };
    bpf_program program{};
    // By itself first: what closes a bracket that we open would change what it means.
    if (!all) {
        if (!compiled(text, program)) return Error(std::string(pcap_geterr(handle.pcap)));
        if (vlan != 0) pcap_freecode(&program);
    }
    if (vlan != 0 && !compiled(sallyport::format("vlan {}{}", vlan, all ? "" : sallyport::format(" and ({})", text)), program))
        return Error(std::string(pcap_geterr(handle.pcap)));
    filter.program_ = std::shared_ptr<const bpf_program>(new bpf_program(program), [](const bpf_program* owned) {
        bpf_program copy = *owned;
        pcap_freecode(&copy);
        delete owned;
    });
    if (program.bf_len > kMaxInstructions)
        return Error(sallyport::format("it makes {} instructions; {} are possible", program.bf_len, kMaxInstructions));
    if (bpf_validate(program.bf_insns, static_cast<int>(program.bf_len)) == 0) return Error(std::string("libpcap made a program that is not valid"));
    return filter;
}

bool CaptureFilter::matches(std::span<const std::byte> head, std::uint32_t length) const noexcept {
    if (!program_) return true;
    return bpf_filter(program_->bf_insns, reinterpret_cast<const u_char*>(head.data()), length, static_cast<u_int>(head.size())) != 0;
}

std::size_t CaptureFilter::instructions() const noexcept { return program_ ? program_->bf_len : 0; }

}  // namespace sallyport::drivers
