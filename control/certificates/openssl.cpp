#include "control/certificates/openssl.h"

namespace sallyport::openssl {

std::string error_queue() {
    std::string text;
    while (const unsigned long error = ERR_get_error()) {
        const char* reason = ERR_reason_error_string(error);
        const char* library = ERR_lib_error_string(error);
        if (!text.empty()) text += "; ";
        text += reason != nullptr ? reason : "error " + std::to_string(ERR_GET_REASON(error));
        if (library != nullptr) text += std::string(" (") + library + ")";
    }
    return text.empty() ? "no reason given" : text;
}

std::string name_text(const X509_NAME* name) {
    const Bio text(BIO_new(BIO_s_mem()));
    if (!text || name == nullptr || X509_NAME_print_ex(text.get(), name, 0, XN_FLAG_RFC2253) < 0) return "";
    char* begin = nullptr;
    const long length = BIO_get_mem_data(text.get(), &begin);
    return length > 0 ? std::string(begin, static_cast<std::size_t>(length)) : "";
}

}  // namespace sallyport::openssl
