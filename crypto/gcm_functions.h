#pragma once

#include <intel-ipsec-mb.h>

namespace sallyport::crypto {

/// IPsec-MB's direct functions for AES-GCM with one length of key. An expanded key is of use to the functions that it was expanded for alone.
struct GcmFunctions {
    aes_gcm_pre_t expand;
    aes_gcm_enc_dec_t seal, open;
    aes_gcm_init_t init;
    aes_gcm_enc_dec_update_t seal_update, open_update;
    aes_gcm_enc_dec_finalize_t seal_finalize, open_finalize;
};
struct GcmFunctionsByKey {
    GcmFunctions of_128, of_256;
};

/// Those that a manager has chosen.
[[nodiscard]] GcmFunctionsByKey chosen_gcm_functions(const IMB_MGR& manager) noexcept;

/// Those with VAES in registers of 256 bits, which a manager takes only on processors that have GFNI and SHA instructions as well; the code needs neither. Zen 3 has
/// VAES and no GFNI. Null where the processor or the library lacks them, or where they do not agree with the other functions of the library: that is tried when the
/// first one asks. Any thread.
[[nodiscard]] const GcmFunctionsByKey* vaes_gcm_functions() noexcept;

/// Of a manager that was initialized for this processor: those with VAES where it has chosen some without.
[[nodiscard]] GcmFunctionsByKey fastest_gcm_functions(const IMB_MGR& manager) noexcept;

}  // namespace sallyport::crypto
