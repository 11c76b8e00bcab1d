#pragma once

#include <rte_config.h>
#include <rte_mbuf.h>

#include <algorithm>
#include <cstddef>
#include <span>
#include <vector>

namespace sallyport {

/// Frames that wait, in order, for room in a device's transmit ring. Owns them until they are taken.
class Backlog {
 public:
    explicit Backlog(std::size_t most) : most_(most) { frames_.reserve(2 * most); }
    ~Backlog() { rte_pktmbuf_free_bulk(frames_.data() + begin_, static_cast<unsigned>(size())); }
    Backlog(const Backlog&) = delete;
    Backlog& operator=(const Backlog&) = delete;

    [[nodiscard]] bool empty() const noexcept { return size() == 0; }
    [[nodiscard]] std::size_t size() const noexcept { return frames_.size() - begin_; }
    /// False: there are as many as may wait, and it has not been taken.
    [[nodiscard]] bool push(rte_mbuf* frame) {
        if (size() == most_) return false;
        if (frames_.size() == 2 * most_) {
            frames_.erase(frames_.begin(), frames_.begin() + static_cast<std::ptrdiff_t>(begin_));
            fetched_ -= begin_;
            begin_ = 0;
        }
        frames_.push_back(frame);
        return true;
    }
    /// The next ones, so many at most. They have waited long enough to be in no cache, and are fetched, a few at a time.
    [[nodiscard]] std::span<rte_mbuf*> next(std::size_t count) noexcept {
        const std::size_t end = begin_ + std::min(count, size());
        constexpr std::size_t kAhead = 8;   // two cache lines each
        for (std::size_t ahead = fetched_; fetched_ < end; ++fetched_) {
            for (; ahead < std::min(fetched_ + kAhead, end); ++ahead) {
                __builtin_prefetch(frames_[ahead], 1);
                __builtin_prefetch(&frames_[ahead]->next, 1);
            }
            __builtin_prefetch(rte_pktmbuf_mtod(frames_[fetched_], const void*));
        }
        return std::span(frames_).subspan(begin_, end - begin_);
    }
    /// The first ones are another's now: no more than next() has given.
    void taken(std::size_t count) noexcept {
        begin_ += count;
        if (begin_ < frames_.size()) return;
        frames_.clear();
        begin_ = fetched_ = 0;
    }

 private:
    std::size_t most_;
    std::vector<rte_mbuf*> frames_;
    std::size_t begin_ = 0;     ///< those before are gone
    std::size_t fetched_ = 0;   ///< those before have been fetched; no less than begin_
};

}  // namespace sallyport
