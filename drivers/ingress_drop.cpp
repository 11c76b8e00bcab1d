#include "drivers/ingress_drop.h"

#include <bpf/bpf.h>
#include <linux/bpf.h>
#include <net/if.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <utility>

#include "crypto/format.h"

namespace sallyport::drivers {

std::expected<IngressDrop, std::string> IngressDrop::make(const std::string& interface) {
    const auto error = [](const char* what, int why) { return std::unexpected(sallyport::format("{}: {}", what, std::strerror(why))); };
    const unsigned index = if_nametoindex(interface.c_str());
    if (index == 0) return error("the interface's index", errno);
    // return TCX_DROP;
    const std::array<bpf_insn, 2> program = {{{.code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_0, .src_reg = 0, .off = 0, .imm = TCX_DROP},
                                              {.code = BPF_JMP | BPF_EXIT, .dst_reg = 0, .src_reg = 0, .off = 0, .imm = 0}}};
    const int loaded = bpf_prog_load(BPF_PROG_TYPE_SCHED_CLS, "sallyport_drop", "", program.data(), program.size(), nullptr);
    if (loaded < 0) return error("loading a BPF program (Linux 6.6, CAP_BPF, CAP_NET_ADMIN)", errno);
    const int link = bpf_link_create(loaded, static_cast<int>(index), BPF_TCX_INGRESS, nullptr);
    const int why = errno;
    close(loaded);   // the link holds it
    if (link < 0) return error("its TC ingress (BPF_TCX_INGRESS, Linux 6.6)", why);
    return IngressDrop(link);
}

IngressDrop::IngressDrop(IngressDrop&& other) noexcept : link_(std::exchange(other.link_, -1)) {}

IngressDrop::~IngressDrop() {
    if (link_ >= 0) close(link_);
}

}  // namespace sallyport::drivers
