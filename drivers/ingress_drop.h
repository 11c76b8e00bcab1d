#pragma once

#include <expected>
#include <string>

namespace sallyport::drivers {

/// Drops all that a kernel interface receives before the kernel's own protocols see it, by a program at its TC ingress (BPF_TCX_INGRESS, Linux 6.6). Packet sockets have
/// had each frame by then. Without it the kernel looks up a route for each, to drop it as not its own; what that allocates is freed in batches (RCU) for which a worker on the same core
/// stood still up to a millisecond at a time.
///
/// Ends with its owner, also when that is killed: then the interface is the kernel's again. Main thread.
class IngressDrop {
 public:
    /// The error is the kernel's word, and for what: it has no such programs, or does not let us (CAP_BPF, CAP_NET_ADMIN).
    [[nodiscard]] static std::expected<IngressDrop, std::string> make(const std::string& interface);
    ~IngressDrop();
    IngressDrop(IngressDrop&& other) noexcept;
    IngressDrop& operator=(IngressDrop&&) = delete;

 private:
    explicit IngressDrop(int link) noexcept : link_(link) {}
    int link_;   ///< descriptor of the kernel's BPF link, or -1
};

}  // namespace sallyport::drivers
