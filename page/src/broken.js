// What the first module says when the rest, with every other word, cannot be loaded.

const BROKEN = {
    en: ["The console page could not be loaded", "Reload"],
    de: ["Die Konsolenseite konnte nicht geladen werden", "Neu laden"],
    es: ["No se pudo cargar la página de la consola", "Recargar"],
    fr: ["La page de la console n’a pas pu être chargée", "Recharger"],
    ja: ["コンソールページを読み込めませんでした", "再読み込み"],
};

/**
 * In the first of *languages* that has it, else in English.
 *
 * @returns {{heading: string, reload: string}}
 */
export function broken(languages) {
    const found = languages.map((tag) => BROKEN[tag.toLowerCase().split("-")[0]]).find(Boolean);
    const [heading, reload] = found ?? BROKEN.en;
    return { heading, reload };
}
