#pragma once

#include <algorithm>
#include <cstddef>
#include <map>
#include <memory>

namespace sallyport::handshake {

/// Values that are in use, by a key, so that all who come to the same share one. Their users keep them; what nobody uses is forgotten here when as many again
/// have come. Not locked.
template <typename Key, typename Value>
class ValuesInUse {
 public:
    /// nullptr: none that is in use.
    [[nodiscard]] std::shared_ptr<const Value> find(const Key& key) const {
        const auto found = values_.find(key);
        return found == values_.end() ? nullptr : found->second.lock();
    }
    /// In the place of one under the same key.
    void add(const Key& key, const std::shared_ptr<const Value>& value) {
        if (values_.size() >= sweep_at_) {
            std::erase_if(values_, [](const auto& each) { return each.second.expired(); });
            sweep_at_ = std::max(kFew, 2 * values_.size());
        }
        values_[key] = value;
    }
    [[nodiscard]] std::size_t size() const noexcept { return values_.size(); }

    static constexpr std::size_t kFew = 64;   ///< are never swept

 private:
    std::map<Key, std::weak_ptr<const Value>> values_;
    std::size_t sweep_at_ = kFew;
};

}  // namespace sallyport::handshake
