#pragma once

#include <optional>
#include <string>

namespace sallyport::drivers {

/// Drops all that a kernel interface receives before the kernel's own protocols see it, by a program at its TC ingress (BPF_TCX_INGRESS, Linux 6.6). Packet sockets have
/// had each frame by then. Without it the kernel looks up a route for each, to drop it as not its own; what that allocates is freed in batches (RCU) for which a worker on the same core
/// stood still up to a millisecond at a time.
///
/// Ends with its owner, also when that is killed: then the interface is the kernel's again. Main thread.
class IngressDrop {
 public:
    /// None where the kernel has no such programs, or does not let us (CAP_BPF, CAP_NET_ADMIN): errno tells.
    [[nodiscard]] static std::optional<IngressDrop> make(const std::string& interface) noexcept;
    ~IngressDrop();
    IngressDrop(IngressDrop&& other) noexcept;
    IngressDrop& operator=(IngressDrop&&) = delete;

 private:
    explicit IngressDrop(int link) noexcept : link_(link) {}
    int link_;   ///< descriptor of the kernel's BPF link, or -1
};

}  // namespace sallyport::drivers
