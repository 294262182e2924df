// What killed processes leave behind.
#pragma once

#include <string>

namespace muonp::core {

// Removes the temporaries of AtomicFile in `folder` whose writer on this host is dead: it holds a lock on the file as
// long as it lives, whatever container it is in. Temporaries of other hosts stay, as do those on file systems without
// locks. A folder that is not there is fine.
void remove_abandoned_files(const std::string& folder);

}  // namespace muonp::core
