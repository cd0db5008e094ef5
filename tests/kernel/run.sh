#!/usr/bin/env bash
# Runs the tests of control groups on a kernel of Debian's in a virtual machine, where everything belongs to version 2:
#
#     bash tests/kernel/run.sh [linux-image-…]        # Debian's package; linux-image-cloud-amd64 without a name
#
# For who works on src/process/cgroup.rs. The other tests run on the kernel that is there, and most machines' has either no
# group to hand over or controllers that version 1 holds. Needs Debian's packages qemu-system-x86, cpio and python3, no KVM
# and no root; takes some two minutes.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
image=${1:-}
place=target/kernel
mkdir -p "$place"

if [[ -z $image ]]; then
    image=$(apt-cache depends linux-image-cloud-amd64 | sed -n 's/.*Depends: *//p' | head -n 1)
fi
if [[ ! -d $place/$image ]]; then
    (cd "$place" && apt-get download "$image")
    dpkg-deb -x "$place/$image"_*.deb "$place/$image"
fi

cargo build --workspace --tests
tests=$(cargo test --no-run --test process --message-format json 2>/dev/null |
    python3 -c 'import json, sys
for line in sys.stdin:
    said = json.loads(line)
    if said.get("executable") and said["target"]["name"] == "process":
        print(said["executable"])')

# ── What the machine has: the programs that the tests call, with their libraries, and Python ──────
root=$place/root
rm -rf "$root"
mkdir -p "$root"/{proc,sys,dev,tmp,etc,root,usr/bin,usr/lib,usr/lib64}
for folder in bin lib lib64; do ln -s "usr/$folder" "$root/$folder"; done
take() {
    local file
    for file in "$@"; do
        mkdir -p "$root$(dirname "$file")"
        [[ -e $root$file ]] || cp -L "$file" "$root$file"
    done
}
with_libraries() {
    take "$@"
    local library
    ldd "$@" 2>/dev/null | grep -oE '/[^ :]+\.so[^ :]*' | sort -u | while read -r library; do take "$library"; done
}
for program in bash dash cat grep wc sleep timeout mkdir seq mount ls; do
    with_libraries "$(command -v "$program")"
done
ln -s bash "$root/usr/bin/sh"
# Debian's own, whatever else there is.
python=$(readlink -f /usr/bin/python3)
with_libraries "$python" /usr/lib/"$(basename "$python")"/lib-dynload/*.so
ln -sf "$(basename "$python")" "$root/usr/bin/python3"
tar -c --exclude=__pycache__ --exclude=test --exclude=dist-packages --exclude='config-*' /usr/lib/"$(basename "$python")" 2>/dev/null |
    tar -x -C "$root"
for binary in "$PWD/target/debug/runql" "$tests"; do
    with_libraries "$binary"
    strip --strip-debug "$root$binary"
done
cp tests/kernel/server.py "$root/server.py"
printf 'root:x:0:0:root:/root:/bin/bash\n' >"$root/etc/passwd"
printf 'root:x:0:\n' >"$root/etc/group"
cat >"$root/init" <<END
#!/bin/bash
export PATH=/usr/bin:/bin:/usr/sbin:/sbin HOME=/root LANG=C.UTF-8
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
mkdir -p /dev/shm
mount -t tmpfs tmpfs /tmp
mount -t cgroup2 -o nsdelegate cgroup2 /sys/fs/cgroup
echo '+memory +pids +cpu' > /sys/fs/cgroup/cgroup.subtree_control
python3 - <<'DONE'
import fcntl, socket, struct
# ifconfig lo up
ask = struct.pack('16sh', b'lo', 1 | 64)
fcntl.ioctl(socket.socket(), 0x8914, ask)
DONE
"$tests" cgroup:: --test-threads 1 && python3 /server.py "$PWD/target/debug/runql" && echo 'ALL PASSED'
echo o > /proc/sysrq-trigger
sleep 60
END
chmod +x "$root/init"
(cd "$root" && find . | cpio --quiet -o -H newc -R 0:0 | gzip -1) >"$place/initrd"

# Without KVM, which is not to be had everywhere, nor works wherever it is there.
timeout 600 qemu-system-x86_64 -accel tcg -cpu max -smp 2 -m 2048 -nographic -no-reboot \
    -kernel "$place/$image"/boot/vmlinuz-* -initrd "$place/initrd" \
    -append 'console=ttyS0 quiet panic=-1' </dev/null | tee "$place/said.txt"
grep -q 'ALL PASSED' "$place/said.txt"
