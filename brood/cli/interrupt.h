// Ctrl-C (and a polite kill, and a terminal that is closed): the first asks the running verb to save and end, the second ends the program at
// once.
#pragma once

namespace brood::cli {

void catch_interrupts();  // also: a closed pipe is an error of the write, not the death of the program
bool interrupted();
int interrupted_exit_code();  // 128 + the signal's number, as a shell would say

}  // namespace brood::cli
