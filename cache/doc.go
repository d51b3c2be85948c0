// Package cache keeps what a study has computed and what it has paid for.
//
// A cache directory holds four things:
//
//	db/       Badger: key → record, and the buckets (batch ledger, answers); in StateDir when one is given
//	blobs/    artefacts by SHA-256, ab/cdef…, read-only, published atomically
//	scratch/  unfinished work by node key, to resume from; never read as a result
//	runs/     what readers see without Badger: the journal of records, the state of
//	          each study's last run, the stamps of files that were hashed before
//
// One process at a time writes: [Open] takes a lock and [LockedError] says who
// holds it. Everybody else uses [OpenReader] and [OpenBlobs], which need no
// lock, work beside a living writer and after kill -9, and never write records.
//
// Nothing is visible before it is complete. A record is synced to disk before
// Commit returns and a blob before its Writer's Commit returns, so what a
// caller sends out after either survives a power cut. A blob that is missing
// or damaged is an error with a type, [MissingError] or [DamagedError], never
// an answer.
//
// The package needs a Unix file system: flock, atomic rename, and stat with
// device, inode and ctime.
package cache
