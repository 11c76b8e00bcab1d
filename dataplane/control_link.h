#pragma once

#include <chrono>
#include <memory>
#include <optional>
#include <string>

#include "control/channel/attachment.h"
#include "dataplane/appliance.h"

namespace sallyport {

/// The dataplane's end of the attachment (attachment.h): connects to control again and again, gets the configuration, starts or
/// changes the appliance, passes the rings, answers questions. Main thread.
class ControlLink {
 public:
    ControlLink(std::string path, std::string file_prefix) : path_(std::move(path)), file_prefix_(std::move(file_prefix)) {}

    /// One round; never blocks. Connects at most every 50 ms. Returns an error when the appliance cannot be started: the process
    /// should end then.
    [[nodiscard]] std::expected<void, std::string> turn();
    /// For poll(); -1 when not connected.
    [[nodiscard]] int fd() const noexcept { return attachment_ ? attachment_->fd() : -1; }
    [[nodiscard]] bool wants_to_write() const noexcept { return attachment_ && attachment_->wants_to_write(); }

    [[nodiscard]] Appliance* appliance() noexcept { return appliance_.get(); }
    [[nodiscard]] bool attached() const noexcept { return attached_; }
    /// Control's user, to which this process changes once it has started.
    [[nodiscard]] const std::string& user() const noexcept { return user_; }
    void stop() { appliance_.reset(); }

 private:
    void lose(const std::string& why);
    [[nodiscard]] std::expected<void, std::string> on_frame(const channel::Attachment::Frame& frame);
    [[nodiscard]] std::expected<void, std::string> on_configure(const nlohmann::json& message);
    void on_change(const nlohmann::json& message, const channel::DataplaneConfiguration& configuration);
    void send(const nlohmann::json& message, std::span<const int> descriptors = {});

    std::string path_, file_prefix_, user_;
    std::unique_ptr<channel::Attachment> attachment_;
    std::unique_ptr<Appliance> appliance_;
    std::chrono::steady_clock::time_point next_try_{};
    bool attached_ = false;   ///< the rings are in use
    bool told_waiting_ = false;
};

}  // namespace sallyport
