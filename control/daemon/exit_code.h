#pragma once

/// Exit codes of all three programs: those of sysexits.h that fit, so that a supervisor or a script can tell
/// "mend the configuration" (do not start again) from "try again".
namespace sallyport::exit_code {

constexpr int kOk = 0;
constexpr int kFailure = 1;         ///< the request was understood and refused: an error answer of control
constexpr int kUsage = 64;          ///< wrong arguments
constexpr int kUnavailable = 69;    ///< something needed is not there: a device, another process that holds our socket
constexpr int kSoftware = 70;       ///< our own bug
constexpr int kOsError = 71;        ///< the system refused: socket, memory, huge pages, sandbox
constexpr int kControlAway = 75;    ///< control is not running or does not answer; trying later may help
constexpr int kProtocol = 76;       ///< the peer sent what the protocol does not have
constexpr int kNoPermission = 77;   ///< the caller may not
constexpr int kConfiguration = 78;  ///< the configuration was refused; starting again does not help

}  // namespace sallyport::exit_code
