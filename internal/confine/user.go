package confine

// FirstUser and Users are the range of the users that VMMs of root's have, one each. It
// is between those of systemd-nspawn and those that distributions give away,
// https://systemd.io/UIDS-GIDS. Group is the one that they have in common: it may read
// what several machines begin from.
const (
	FirstUser = 1_900_000_000
	Users     = 1 << 22 // as many as there can be processes, PID_MAX_LIMIT in linux/threads.h
	Group     = FirstUser
)

// User returns the user, and the group, of the VMM of the supervisor with this process
// number: while that runs, nobody else has it.
func User(supervisor int) int { return FirstUser + supervisor }

// FirstBuilder is the first of the users that images are built as when root builds them:
// the root of a build, and those of the system that is built, which are Builders.
const (
	FirstBuilder = FirstUser + Users
	Builders     = 65536
)

// FirstSupervisor is the first of the users that supervisors of root's become, one each, and
// LastUser the last of all that root's machines have.
const (
	FirstSupervisor = FirstBuilder + Builders
	LastUser        = FirstSupervisor + Users - 1
)

// SupervisorUser returns the user, and the group, of the supervisor with this process
// number. What has that owner is the word of that supervisor alone.
func SupervisorUser(supervisor int) int { return FirstSupervisor + supervisor }

// SupervisorOf returns the process number of the supervisor that is this user, and false if
// that is none.
func SupervisorOf(user int) (supervisor int, ok bool) {
	return user - FirstSupervisor, user > FirstSupervisor && user <= LastUser
}
