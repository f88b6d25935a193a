package review

import (
	"bytes"
	"slices"
	"strings"

	"github.com/mayfly-vm/mayfly/internal/review/settings"
)

// composeFiles are files of the format that Docker Compose reads.
var composeFiles = []string{"compose*.y*ml", "docker-compose*.y*ml", "podman-compose*.y*ml", "docker-stack*.y*ml"}

// containerRules are about containers and infrastructure.
var containerRules = []rule{
	{
		id: "container-build", class: Builds, reason: "container build or start",
		paths: slices.Concat(composeFiles, []string{
			"dockerfile*", "*.dockerfile", "containerfile*", "*.containerfile", "docker-bake*", ".dockerignore", ".containerignore", "vagrantfile", "skaffold.y*ml", "devcontainer.json", ".devcontainer.json",
			".devcontainer/**", "devspace.yaml", "okteto.yml", "chart.yaml", "templates/*.yaml", "kustomization.y*ml", "helmfile.y*ml", "*.pkr.hcl", "cloud-init*", "docker-entrypoint*", "apptainer*", "singularity*",
		}),
	},
	{
		id: "container-host", class: Suspicious, reason: "gives a container your host",
		paths: []string{"*.yml", "*.yaml"}, when: givesHost,
	},
	{
		id: "container-insecure", class: Suspicious, reason: "gives a container your host",
		paths: []string{"dockerfile*", "*.dockerfile", "containerfile*", "docker-bake*", "makefile", "*.mk", "justfile", "*.sh", "vagrantfile", "skaffold.y*ml", "taskfile*.y*ml", "package.json"},
		when:  addsLine(`^.*(?:--security=insecure|security\.insecure|--privileged\b|docker\.sock|--(?:net|network|pid|ipc|uts|userns)[= ]host\b|--cap-add\b|-v\s*/:|--volume[= ]/:).*$`),
	},
	{
		id: "infrastructure", class: Builds, reason: "terraform plan already runs this",
		paths: []string{"*.tf", "*.tf.json", "*.tofu"},
		when:  addsLine(`^.*(?:"external"|local-exec|remote-exec|\bsource\s*=|\bprovider\b|"source"\s*:).*$`),
	},
	{
		id: "infrastructure-commands", class: Builds, reason: "infrastructure tools run or obey this",
		paths: []string{"terragrunt.hcl", "ansible.cfg", "kubeconfig", "*.kubeconfig", ".kube/config", ".terraformrc", "terraform.rc", "pulumi.y*ml", "cdk.json", "playbook*.y*ml", "site.yml", "roles/**", "*.nomad", "*.hcl"},
	},
	{
		id: "terraform-plugins", class: Suspicious, reason: "terraform plan already runs this",
		paths: []string{".terraform/**"}, when: func(s *subject) []Finding { return is(!s.generated()) },
	},
}

var hostWords = []string{"privileged", "docker.sock", "containerd.sock", "podman.sock", "hostpath", "hostnetwork", "hostpid", "hostipc", "network_mode", "cap_add", "pid:", "ipc:", "uts:", "userns_mode", "devices", "security_opt",
	"volumes", "device_cgroup_rules", "cgroup_parent", "capabilities", "allowprivilegeescalation"}

var hostVolume = expression(`^(?:/|~|\$\{?HOME|\.\.(?:/|$)|[A-Za-z]:\\)`)

// givesHost is about files of Compose and Kubernetes, which say it with the same words.
func givesHost(s *subject) []Finding {
	compose := slices.ContainsFunc(composeFiles, s.matches)
	low := s.addedLines()
	if !compose && !containsAny(low, "privileged", "docker.sock", "containerd.sock", "hostpath", "hostnetwork", "hostpid", "hostipc") {
		return nil
	}
	fresh, err := s.new()
	if err == nil && !compose && (!bytes.Contains(fresh, []byte("apiVersion")) || !bytes.Contains(fresh, []byte("kind"))) {
		return nil
	}
	changes, err := s.changed(settings.YAML)
	if err != nil {
		// Templates are no YAML yet.
		if !compose && containsAny(fresh, "{{") {
			return kubernetesLine(s)
		}
		if compose || containsAny(low, hostWords...) {
			return []Finding{{Detail: "its settings cannot be read: " + bounded(err.Error())}}
		}
		return nil
	}
	var found []Finding
	for _, c := range changes {
		if c.Op != settings.Removed && len(c.Path) > 0 && givesHostKey(c, compose) && len(found) < mostFindings {
			found = append(found, Finding{Key: bounded(c.Key()), Line: c.Line, Detail: bounded(c.New)})
		}
	}
	return found
}

var kubernetesLine = addsLine(`^\s*(?:-\s*)?(?:hostpath:|hostnetwork:\s*true|hostpid:\s*true|hostipc:\s*true|privileged:\s*true).*$`)

func givesHostKey(c settings.Change, compose bool) bool {
	last := strings.ToLower(c.Path[len(c.Path)-1])
	if last == settings.Element && len(c.Path) > 1 {
		last = strings.ToLower(c.Path[len(c.Path)-2])
	}
	value := strings.ToLower(c.New)
	switch {
	case strings.Contains(value, "docker.sock"), strings.Contains(value, "containerd.sock"), strings.Contains(value, "podman.sock"), last == "privileged" && value == "true":
		return true
	case !compose:
		return slices.ContainsFunc(c.Path, func(k string) bool { return strings.EqualFold(k, "hostPath") }) || strings.HasPrefix(last, "host") && value == "true" || last == "allowprivilegeescalation" && value == "true"
	}
	switch last {
	case "network_mode", "pid", "ipc", "uts", "userns_mode", "cgroup":
		return value == "host"
	case "cap_add", "devices", "device_cgroup_rules", "cgroup_parent":
		return true
	case "security_opt":
		return strings.Contains(value, "unconfined") || strings.Contains(value, "disable")
	case "volumes":
		return hostVolume().MatchString(c.New)
	case "source", "device":
		return slices.Contains(c.Path, "volumes") && hostVolume().MatchString(c.New)
	}
	return false
}
