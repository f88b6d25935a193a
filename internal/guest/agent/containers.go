package agent

import (
	"bytes"
	"fmt"
	"io/fs"
	"strings"

	"github.com/mayfly-vm/mayfly/internal/guest/wire"
)

// A container has certificates of its own, which know nothing of the machine's. Builds
// install those of the image anew, so nothing may be mounted over them, and what is
// mounted elsewhere on an image leaves an empty file in the layer. /dev is a tmpfs in
// every container.
const containerTrust = "/dev/mayfly.pem"

// containersConf is there where Podman or Buildah is.
const containersConf = "/etc/containers"

// runcPlaces are where distributions have runc. ownRunc comes before them in the PATH
// of systemd's services and of sudo, by which containerd, Docker and BuildKit look.
var runcPlaces = []string{"/usr/sbin/runc", "/usr/bin/runc"}

const (
	ownRunc     = "/usr/local/sbin/runc"
	ownRuncMark = "# mayfly writes this file at each start."
)

// runcScript changes what runc is to start, which is one line of JSON, and becomes runc.
// A variable of the container's own comes later in the list, and so prevails.
const runcScript = `#!/bin/sh
` + ownRuncMark + ` Containers get the certificates that the machine trusts.
before='' file='' what=''
for arg; do
	case $file$before in
	--bundle) file=$arg/config.json what='{"destination":"/dev",' ;;
	--process) file=$arg what='"env":' ;;
	esac
	before=$arg
done
if [ -f "$file" ]; then
	sed -i '\|%[1]s|!{\|'"$what"'|{
s|{"destination":"/dev",[^}]*}|&,{"destination":"%[1]s","type":"bind","source":"%[2]s","options":["bind","ro"]}|
s|"env":\["|"env":[%[3]s,"|
}}' "$file" || :
fi
exec %[4]s "$@"
`

// containerEnv returns the variables by which programs in a container find the
// certificates: also those that in the machine look where the system has them.
func containerEnv() []string {
	env := []string{"CURL_CA_BUNDLE=" + containerTrust, "GIT_SSL_CAINFO=" + containerTrust}
	for _, v := range wire.TrustEnv() {
		name, value, _ := strings.Cut(v, "=")
		if value == wire.TrustedFile || value == wire.AddedFile {
			value = containerTrust
		}
		env = append(env, name+"="+value)
	}
	return env
}

// reachContainers has containers of Docker, containerd and Podman, and the steps of
// docker build, trust what the machine does. Those of podman build and buildah get the
// file, and no variables: they take none from that configuration. An image without these costs a look.
func (t tree) reachContainers() error {
	env := containerEnv()
	list := `"` + strings.Join(env, `","`) + `"`
	if _, _, err := t.stat(containersConf); err == nil {
		// The list replaces the default.
		text := fmt.Sprintf("[containers]\nvolumes = [%q]\nenv = [%q,%s]\n", wire.TrustedFile+":"+containerTrust+":ro", "PATH="+containerPath, list)
		if err := t.writeFile(containersConf+"/containers.conf.d/mayfly-trust.conf", []byte(text), 0o644); err != nil {
			return err
		}
	}
	for _, runc := range runcPlaces {
		if _, fi, err := t.stat(runc); err != nil || !fi.Mode().IsRegular() {
			continue
		}
		old, err := t.readFile(ownRunc)
		if err != nil || old != nil && !bytes.Contains(old, []byte(ownRuncMark)) {
			return err // somebody's own
		}
		return t.writeFile(ownRunc, fmt.Appendf(nil, runcScript, containerTrust, wire.TrustedFile, list, runc), fs.FileMode(0o755))
	}
	return nil
}

// containerPath is what Podman's containers have without a configuration.
const containerPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
