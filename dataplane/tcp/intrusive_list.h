#pragma once

namespace sallyport::tcp {

/// Membership of an object in an IntrusiveList; one member for each list that it can be on.
template <typename T>
struct Link {
    T* next = nullptr;
    T* previous = unlinked();
    [[nodiscard]] bool linked() const noexcept { return previous != unlinked(); }
    /// No object's address.
    [[nodiscard]] static T* unlinked() noexcept { return reinterpret_cast<T*>(1); }
};

/// First in, first out list of objects that hold their own links. Owns nothing, allocates nothing.
template <typename T, Link<T> T::* Member>
class IntrusiveList {
 public:
    [[nodiscard]] T* front() const noexcept { return head_; }
    /// No effect when `object` is on the list.
    void push_back(T& object) noexcept {
        Link<T>& link = object.*Member;
        if (link.linked()) return;
        link = {nullptr, tail_};
        (tail_ != nullptr ? (tail_->*Member).next : head_) = &object;
        tail_ = &object;
    }
    /// No effect when `object` is not on the list.
    void remove(T& object) noexcept {
        Link<T>& link = object.*Member;
        if (!link.linked()) return;
        (link.previous != nullptr ? (link.previous->*Member).next : head_) = link.next;
        (link.next != nullptr ? (link.next->*Member).previous : tail_) = link.previous;
        link = {};
    }
    [[nodiscard]] T* pop_front() noexcept {
        T* object = head_;
        if (object != nullptr) remove(*object);
        return object;
    }

 private:
    T* head_ = nullptr;
    T* tail_ = nullptr;
};

}  // namespace sallyport::tcp
