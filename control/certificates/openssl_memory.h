#pragma once

namespace sallyport::openssl {

/// OpenSSL's memory, malloc(3)'s, that each thread keeps when it is freed, and takes again: the last that was freed first, since it is still in the caches. A handshake allocates some six
/// hundred times, and more than malloc has a list of a thread for: seven of a size, none above 1 KB. 3 % of a handshake's time, and so in the whole process with jemalloc, which is one more
/// library to trust.
///
/// A thread keeps at most 64 KB of each size, or 16 blocks of it. What is secret OpenSSL overwrites before it frees it, and goes on to. Once for the process, before it uses OpenSSL;
/// std::logic_error: too late. False: this build has a sanitizer, whose malloc sees errors, and leaves all to it.
bool keep_freed_memory();

/// Gives what this thread keeps back to malloc.
void give_freed_memory_back() noexcept;

}  // namespace sallyport::openssl
