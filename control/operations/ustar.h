#pragma once

#include <chrono>
#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace sallyport::operations {

/// An archive in the ustar format of POSIX.1 (pax, "ustar Interchange Format"), in memory. Members are plain files of mode 0600.
class Ustar {
 public:
    explicit Ustar(std::chrono::system_clock::time_point now) : now_(now) {}

    /// `name`: at most 100 octets, relative. What is added twice is there twice.
    void add(std::string_view name, std::string_view contents);
    [[nodiscard]] const std::vector<std::string>& names() const noexcept { return names_; }
    /// With the end-of-archive mark. Nothing can be added afterwards.
    [[nodiscard]] std::string finish() &&;

 private:
    std::chrono::system_clock::time_point now_;
    std::string octets_;
    std::vector<std::string> names_;
};

}  // namespace sallyport::operations
