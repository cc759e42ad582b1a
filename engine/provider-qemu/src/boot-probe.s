# A boot sector that goes the way of every boot loader and kernel, and says how far it came.
#
# Hypervisors exist that take a machine through its firmware and break down at the first interrupt in protected mode, or
# with the first page table. So this goes there: real mode, protected mode and an interrupt in it, back to real mode and a
# call of the firmware, long mode with page tables and an interrupt in it, and a loop that nobody ends in time who takes
# it instruction by instruction. Then it writes 42 to the exit port, which ends QEMU with 85.
#
#   as --64 -o boot-probe.o boot-probe.s
#   ld -m elf_x86_64 -Ttext 0x7c00 --oformat binary -e start -o boot-probe.bin boot-probe.o

        .set PAGES, 0x10000             # page tables, three pages
        .set IDT32, 0x9000
        .set IDT64, 0xa000
        .set LOOPS, 200000000

        .code16
        .globl start
start:
        cli
        ljmp    $0, $begin              # some firmware begins at 07c0:0000
begin:
        xorw    %ax, %ax
        movw    %ax, %ds
        movw    %ax, %es
        movw    %ax, %ss
        movw    $0x7c00, %sp
        inb     $0x92, %al              # A20
        orb     $2, %al
        andb    $0xfe, %al
        outb    %al, $0x92
        lgdt    gdt_pointer
        movl    %cr0, %eax
        orb     $1, %al
        movl    %eax, %cr0
        ljmp    $CODE32, $protected

        .code32
protected:
        movw    $DATA, %ax
        movw    %ax, %ds
        movw    %ax, %es
        movw    %ax, %ss
        movl    $0x7c00, %esp
        movl    $(CODE32 << 16) | (handler32 - start + 0x7c00), IDT32 + 8 * 0x30
        movl    $0x8e00, IDT32 + 8 * 0x30 + 4
        lidt    idt32_pointer
        xorl    %ebx, %ebx
        int     $0x30
        cmpl    $1, %ebx
        jne     fail
        ljmp    $CODE16, $descend       # back to real mode, for a word with the firmware

        .code16
descend:
        movl    %cr0, %eax
        andb    $0xfe, %al
        movl    %eax, %cr0
        ljmp    $0, $real
real:
        xorw    %ax, %ax
        movw    %ax, %ds
        movw    %ax, %es
        movw    %ax, %ss
        lidt    ivt_pointer
        sti
        movw    $0x0e2e, %ax            # a dot on the screen
        int     $0x10
        int     $0x12                   # memory below 1 MiB
        cli
        testw   %ax, %ax
        jz      fail16

        movl    $PAGES, %edi            # the first 2 MiB, in one page, as they lie
        movl    %edi, %cr3
        movw    $(PAGES >> 4), %ax
        movw    %ax, %es
        xorw    %di, %di
        xorl    %eax, %eax
        movw    $0xc00, %cx
        rep stosl
        movl    $PAGES + 0x1007, %es:0
        movl    $PAGES + 0x2007, %es:0x1000
        movl    $0x87, %es:0x2000
        movl    %cr4, %eax
        orb     $0x20, %al              # PAE
        movl    %eax, %cr4
        movl    $0xc0000080, %ecx       # EFER
        rdmsr
        orb     $1, %ah                 # LME
        wrmsr
        movl    %cr0, %eax
        orl     $0x80000001, %eax
        movl    %eax, %cr0
        ljmp    $CODE64, $long
fail16: hlt
        jmp     fail16

        .code32
fail:   hlt
        jmp     fail
handler32:
        incl    %ebx
        iret

        .set long, . - start + 0x7c00
        .code64
        movl    $DATA, %eax
        movl    %eax, %ss
        movl    %eax, %ds
        movl    $(CODE64 << 16) | (handler64 - start + 0x7c00), IDT64 + 16 * 0x30
        movl    $0x8e00, IDT64 + 16 * 0x30 + 4
        lidt    idt64_pointer
        xorl    %ebx, %ebx
        int     $0x30
        cmpl    $1, %ebx
        jne     fail
        xorl    %eax, %eax
        cpuid
        movl    $LOOPS, %ecx
1:      decl    %ecx
        jnz     1b
        movb    $42, %al
        movw    $0x501, %dx
        outb    %al, %dx
        jmp     fail
handler64:
        incl    %ebx
        iretq

        .balign 8
gdt:    .quad   0
        .set    CODE32, . - gdt
        .quad   0x00cf9a000000ffff
        .set    CODE16, . - gdt
        .quad   0x00009a000000ffff
        .set    DATA, . - gdt
        .quad   0x00cf92000000ffff
        .set    CODE64, . - gdt
        .quad   0x00af9a000000ffff
gdt_pointer:
        .word   . - gdt - 1
        .long   gdt
idt32_pointer:
        .word   8 * 0x31 - 1
        .long   IDT32
idt64_pointer:
        .word   16 * 0x31 - 1
        .quad   IDT64
ivt_pointer:
        .word   0x3ff
        .long   0
        .org    510
        .word   0xaa55
